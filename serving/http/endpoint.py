"""Handles a request: reads its deadline and body, calls the operation, and renders the result or the error."""

import asyncio
import math
import re
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from serving.errors import BadRequestError, ServingError
from serving.http.body import OCTETS, HeldBodies, HeldBody, check_type, read_body, split_body
from serving.interfaces import Service
from serving.protocols.all import protocol_of
from serving.protocols.operation import TIMEOUT_HEADER, Call, Operation, WithTail, check_timeout
from serving.settings import Limits, Settings
from serving.types import Deadline, Timings

CLIENT_CLOSED_REQUEST = 499
"""The status of a reply to a client that has left: a convention of nginx, which nobody receives."""
MILLISECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,6})?")
RETRY_STATUSES = (429, 503)
"""Statuses whose replies have a Retry-After header."""
WATCH_AFTER_S = 0.05
"""Most requests are answered sooner than this, and no task is needed to watch their clients."""


def endpoint(
    operation: Operation, service: Service, settings: Settings, held: HeldBodies
) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    """Build the function that answers requests to an operation."""
    decoder = None if operation.asks is None else msgspec.json.Decoder(operation.asks)

    async def handle(request: Request) -> Response:
        with held.of_request() as held_body:
            return await answer(request, held_body)

    async def answer(request: Request, held_body: HeldBody) -> Response:
        started, timings = time.perf_counter(), Timings()
        try:
            deadline = _deadline(request, settings.limits)
            body, tail = None, b""
            if decoder is not None:
                check_type(request.headers, operation)
                content = await read_body(request, settings.limits, deadline.left_s(), held_body)
                head, tail = split_body(content, request.headers, operation.json_length_header)
                body = _decoded(head, decoder)
            call = Call(
                service=service,
                settings=settings,
                request=request,
                route=operation.path,
                body=body,
                deadline=deadline,
                timings=timings,
                tail=tail,
            )
            with cancel_on_disconnect(request):
                reply = await operation.answer(call)
            response = _response(reply, operation.json_length_header)
        except ServingError as error:
            response = error_response(error, request.scope["path"], request.state.request_id)
        except ClientDisconnect:
            response = Response(status_code=CLIENT_CLOSED_REQUEST)
        response.headers["Server-Timing"] = _server_timing(timings, time.perf_counter() - started)
        return response

    return handle


def error_response(error: ServingError, path: str, request_id: str, headers: dict[str, str] | None = None) -> Response:
    """Render an error as the protocol of `path` does, with Retry-After in whole seconds where a retry may succeed."""
    protocol = protocol_of(path)
    status = protocol.bad_request_status if error.status == 400 else error.status
    body = msgspec.json.encode(protocol.render_error(error, request_id))
    response = Response(body, status_code=status, media_type="application/json", headers=headers)
    if status in RETRY_STATUSES:
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s or 1)))
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _deadline(request: Request, limits: Limits) -> Deadline:
    header = request.headers.get(TIMEOUT_HEADER)
    if header is None:
        return Deadline.after(limits.timeout_ms / 1000)
    if not MILLISECONDS.fullmatch(header):
        raise BadRequestError(f"{TIMEOUT_HEADER}: {header[:40]!r}; expected milliseconds such as 250")
    return Deadline.after(check_timeout(float(header), limits, TIMEOUT_HEADER))


def _decoded(content: bytes, decoder: "msgspec.json.Decoder[Any]") -> Any:
    try:
        return decoder.decode(content)
    except RecursionError as error:
        raise BadRequestError("the body is nested too deeply; expected JSON of a few levels") from error
    except ValueError as error:  # malformed, of a wrong type, not UTF-8, half a surrogate pair, an endless number
        raise BadRequestError(f"the body: {str(error)[:300]}; the page /docs shows what is expected") from error


def _response(reply: Any, json_length_header: str) -> Response:
    if not isinstance(reply, WithTail):
        return Response(msgspec.json.encode(reply), media_type="application/json")
    head = msgspec.json.encode(reply.head)
    return Response(head + reply.tail, media_type=OCTETS, headers={json_length_header: str(len(head))})


def _server_timing(timings: Timings, total_s: float) -> str:
    """The milliseconds of each stage, as https://www.w3.org/TR/server-timing/ writes them."""
    stages: dict[str, float] = {**timings.by_stage(), "total": total_s}
    return ", ".join(f"{name};dur={seconds * 1000:.3f}" for name, seconds in stages.items())


@contextmanager
def cancel_on_disconnect(request: Request) -> Iterator[None]:
    """Cancel what the task does in the block once the client has closed its connection.

    Raises:
        ClientDisconnect: the client left.
    """
    watch = _DisconnectWatch(request)
    try:
        yield
    except asyncio.CancelledError as error:
        if watch.has_cancelled():
            raise ClientDisconnect from error
        raise
    finally:
        watch.stop()


class _DisconnectWatch:
    """Watches the client of a request for the task that answers it."""

    def __init__(self, request: Request) -> None:
        task = asyncio.current_task()
        assert task
        self._task = task
        self._request = request
        self._gone = False
        self._watching: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._start)

    def has_cancelled(self) -> bool:
        """Whether the task was cancelled because the client left, and for no other reason."""
        return self._gone and self._task.uncancel() == 0

    def stop(self) -> None:
        """Watch no longer."""
        for pending in (self._timer, self._watching):
            if pending:
                pending.cancel()
        # Both point back here: under load, collecting such cycles stops the loop.
        self._timer = self._watching = None

    def _start(self) -> None:
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._task.cancel()
