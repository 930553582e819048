"""From a request to its reply: body and deadline read, the operation called, errors rendered, work cancelled when the client leaves."""

import asyncio
import math
import re
import time
import zlib
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from email.message import Message
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from serving.answers import Timings
from serving.deadline import Deadline
from serving.errors import BadRequestError, ServingError, SlowBodyError, TooLargeError, UnsupportedError
from serving.interfaces import Service
from serving.protocols.all import protocol_of
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


COME_BACK = (429, 503)
"""Statuses that tell when to come again."""


def error_response(error: ServingError, path: str, request_id: str, headers: dict[str, str] | None = None) -> Response:
    """Return the reply to a request on `path`, with Retry-After in whole seconds where it may come again."""
    protocol = protocol_of(path)
    status = protocol.bad_request_status if error.status == 400 else error.status
    body = msgspec.json.encode(protocol.render_error(error, request_id))
    response = Response(body, status_code=status, media_type="application/json", headers=headers)
    if status in COME_BACK:
        response.headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s or 1)))
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


CHARSETS = ("utf-8", "utf8", "us-ascii")
GZIP = 16 + zlib.MAX_WBITS


async def read_body(request: Request, limits: Limits, within_s: float) -> bytes:
    """Return the body, unpacked.

    Raises:
        TooLargeError: it is over the limit, as it came or unpacked; nothing beyond the limit is read or unpacked.
        UnsupportedError: its media type, charset or encoding is not read here.
        SlowBodyError: it did not arrive within `within_s` or `limits.body_timeout_ms`.
        BadRequestError: it is not what its Content-Encoding says.
        ClientDisconnect: the client left before all of it came.
    """
    _check_type(request.headers.get("content-type"))
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > limits.body_bytes:
        raise _too_large(limits)
    parts = _parts(request.headers.get("content-encoding"), limits)
    patience_s = min(limits.body_timeout_ms / 1000, max(within_s, 0.0))
    try:
        async with asyncio.timeout(patience_s):
            async for chunk in request.stream():
                parts.add(chunk)
    except TimeoutError as error:
        raise SlowBodyError(f"the body did not arrive within {patience_s:.3g} s; send it faster") from error
    return parts.end()


class _Plain:
    """Bytes as they came."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._chunks: list[bytes] = []
        self._came = 0

    def add(self, chunk: bytes) -> None:
        """Take the next bytes from the wire."""
        self._came += len(chunk)
        if self._came > self._limits.body_bytes:
            raise _too_large(self._limits)
        self._chunks.append(chunk)

    def end(self) -> bytes:
        """Return the whole."""
        return b"".join(self._chunks)


class _Gzip:
    """Bytes that are unpacked as they come, and never further than one byte over the limit."""

    def __init__(self, limits: Limits) -> None:
        self._packed = _Plain(limits)
        self._plain = _Plain(limits)
        self._room = limits.body_bytes
        self._inflate = zlib.decompressobj(GZIP)

    def add(self, chunk: bytes) -> None:
        """Take the next packed bytes from the wire."""
        if not chunk:
            return
        self._packed.add(chunk)
        if self._inflate.eof:
            raise BadRequestError("the body goes on after the end of its gzip member; send one member")
        try:
            unpacked = self._inflate.decompress(chunk, self._room + 1)
        except zlib.error as error:
            raise BadRequestError(f"the body is not gzip ({error}), and its Content-Encoding says so") from error
        self._plain.add(unpacked)
        self._room -= len(unpacked)
        if self._inflate.unused_data:
            raise BadRequestError("the body goes on after the end of its gzip member; send one member")

    def end(self) -> bytes:
        """Return the whole, unpacked."""
        if not self._inflate.eof:
            raise BadRequestError("the gzip body is cut off; send all of it")
        return self._plain.end()


def _parts(encoding: str | None, limits: Limits) -> _Plain | _Gzip:
    name = (encoding or "identity").strip().lower()
    if name == "identity":
        return _Plain(limits)
    if name in ("gzip", "x-gzip"):
        return _Gzip(limits)
    raise UnsupportedError(f"Content-Encoding {name[:40]!r}; want gzip, or none")


def _check_type(header: str | None) -> None:
    """Refuse what is not JSON in UTF-8. A request that names no type is taken at its word by the parser."""
    if header is None or header == "application/json":
        return
    message = Message()
    message["Content-Type"] = header
    media, charset = message.get_content_type(), str(message.get_param("charset", "utf-8"))
    if media != "application/json" and not (media.startswith("application/") and media.endswith("+json")):
        raise UnsupportedError(f"Content-Type {header[:80]!r}; want application/json")
    if charset.strip().lower() not in CHARSETS:
        raise UnsupportedError(f"charset {charset[:40]!r}; want utf-8")


def _too_large(limits: Limits) -> TooLargeError:
    return TooLargeError(
        f"the body is over {limits.body_bytes} bytes, as it came or unpacked; send the texts in several requests"
    )


NOTICED_AFTER_S = 0.05
"""Most requests are answered sooner than that, and nobody has to be set to watch their clients."""


@contextmanager
def cancel_on_disconnect(request: Request) -> Iterator[None]:
    """Cancel what the task does in the block once the client has closed its connection.

    Raises:
        ClientDisconnect: the client left.
    """
    watch = _Watch(request)
    try:
        yield
    except asyncio.CancelledError as error:
        if watch.saw_it_leave():
            raise ClientDisconnect from error
        raise
    finally:
        watch.end()


class _Watch:
    """Watches the client of a request for the task that answers it."""

    def __init__(self, request: Request) -> None:
        task = asyncio.current_task()
        assert task
        self._task = task
        self._request = request
        self._gone = False
        self._watching: asyncio.Task[None] | None = None
        self._begins: asyncio.TimerHandle | None = asyncio.get_running_loop().call_later(NOTICED_AFTER_S, self._begin)

    def saw_it_leave(self) -> bool:
        """Return whether the task was cancelled for that, and for nothing else."""
        return self._gone and self._task.uncancel() == 0

    def end(self) -> None:
        """Watch no longer."""
        for pending in (self._begins, self._watching):
            if pending:
                pending.cancel()
        # Both point back here: rings of garbage would wait for a sweep, and under load a sweep of them stops the loop.
        self._begins = self._watching = None

    def _begin(self) -> None:
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._task.cancel()
