"""From a request to its reply: limits, body, deadline, the operation's answer, and an end when the client leaves."""

import re
import time
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from serving.answers import Timings
from serving.deadline import Deadline
from serving.errors import BadRequestError, ServingError
from serving.http.body import read_body
from serving.http.disconnect import cancel_on_disconnect
from serving.http.error_response import error_response
from serving.interfaces import Service
from serving.protocols.operation import TIMEOUT_HEADER, Call, Operation, check_timeout
from serving.settings import Limits, Settings

NOBODY_READS = 499
"""The status of a reply to a client that left: a convention of nginx, seen by nobody."""
MILLISECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")


def endpoint(
    operation: Operation, service: Service, settings: Settings
) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    """Return the function that answers requests to an operation."""
    decoder = None if operation.asks is None else msgspec.json.Decoder(operation.asks)

    async def handle(request: Request) -> Response:
        started, timings = time.perf_counter(), Timings()
        try:
            deadline = _deadline(request, settings.limits)
            body = None
            if decoder is not None:
                body = _decoded(await read_body(request, settings.limits, deadline.left_s()), decoder)
            call = Call(
                service=service,
                settings=settings,
                request=request,
                route=operation.path,
                body=body,
                deadline=deadline,
                timings=timings,
            )
            with cancel_on_disconnect(request):
                reply = await operation.answer(call)
            response = Response(msgspec.json.encode(reply), media_type="application/json")
        except ServingError as error:
            response = error_response(error, request.scope["path"], request.state.request_id)
        except ClientDisconnect:
            response = Response(status_code=NOBODY_READS)
        response.headers["Server-Timing"] = _server_timing(timings, time.perf_counter() - started)
        return response

    return handle


def _deadline(request: Request, limits: Limits) -> Deadline:
    given = request.headers.get(TIMEOUT_HEADER)
    if given is None:
        return Deadline.after(limits.timeout_ms / 1000)
    if not MILLISECONDS.fullmatch(given):
        raise BadRequestError(f"{TIMEOUT_HEADER}: {given[:40]!r}; want milliseconds such as 250")
    return Deadline.after(check_timeout(float(given), limits, TIMEOUT_HEADER))


def _decoded(content: bytes, decoder: "msgspec.json.Decoder[Any]") -> Any:
    try:
        return decoder.decode(content)
    except RecursionError as error:
        raise BadRequestError("the body is nested too deeply; want JSON of a few levels") from error
    except ValueError as error:  # malformed, of a wrong type, not UTF-8, half a surrogate pair, an endless number
        raise BadRequestError(f"the body: {str(error)[:300]}; the page /docs says what is wanted") from error


def _server_timing(timings: Timings, total_s: float) -> str:
    """Return the milliseconds of each stage, as https://www.w3.org/TR/server-timing/ writes them."""
    stages = {
        "tokenise": timings.tokenise_s,
        "queue": timings.queue_s,
        "inference": timings.inference_s,
        "escalation": timings.escalation_s,
        "total": total_s,
    }
    return ", ".join(f"{name};dur={seconds * 1000:.3f}" for name, seconds in stages.items())
