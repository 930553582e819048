"""Handles a request: reads its deadline and body, calls the operation, and renders the result or the error."""

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
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from serving.errors import BadRequestError, ServingError, SlowBodyError, TooLargeError, UnsupportedError
from serving.http.held_bodies import HeldBodies, HeldBody
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
OCTETS = "application/octet-stream"
LONGEST_LENGTH = 12
"""The most digits of a length in a header."""
BROWSER_HEADERS = ("origin", "sec-fetch-site")
"""Headers that browsers send with every POST, and programs do not."""
CHARSETS = ("utf-8", "utf8", "us-ascii")
GZIP = 16 + zlib.MAX_WBITS
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
                _check_type(request.headers, operation)
                content = await read_body(request, settings.limits, deadline.left_s(), held_body)
                head, tail = _split(content, request.headers, operation.json_length_header)
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


def _split(content: bytes, headers: Headers, json_length_header: str) -> tuple[bytes, bytes]:
    """Split a body into its JSON and what follows it."""
    length = headers.get(json_length_header) if json_length_header else None
    if length is None:
        return content, b""
    if not (length.isascii() and length.isdigit() and len(length) <= LONGEST_LENGTH) or int(length) > len(content):
        raise BadRequestError(
            f"{json_length_header}: {length[:40]!r}; expected how many of the {len(content)} bytes of the body are JSON"
        )
    return content[: int(length)], content[int(length) :]


def _response(reply: Any, json_length_header: str) -> Response:
    if not isinstance(reply, WithTail):
        return Response(msgspec.json.encode(reply), media_type="application/json")
    head = msgspec.json.encode(reply.head)
    return Response(head + reply.tail, media_type=OCTETS, headers={json_length_header: str(len(head))})


def _server_timing(timings: Timings, total_s: float) -> str:
    """The milliseconds of each stage, as https://www.w3.org/TR/server-timing/ writes them."""
    stages: dict[str, float] = {**timings.by_stage(), "total": total_s}
    return ", ".join(f"{name};dur={seconds * 1000:.3f}" for name, seconds in stages.items())


async def read_body(request: Request, limits: Limits, within_s: float, held: HeldBody) -> bytes:
    """Read the body and decompress it.

    Raises:
        TooLargeError: it is over the limit, compressed or not; nothing beyond the limit is read or decompressed.
        UnsupportedError: its encoding is not supported.
        SlowBodyError: it did not arrive within `within_s` or `limits.body_timeout_ms`.
        BadRequestError: it is not what its Content-Encoding says.
        OverloadedError: the service holds too many bytes of bodies.
        ClientDisconnect: the client left before all of it arrived.
    """
    declared = request.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:20]) > limits.body_bytes:
        raise _too_large(limits)
    reader = _body_reader(request.headers.get("content-encoding"), limits)
    timeout_s = min(limits.body_timeout_ms / 1000, max(within_s, 0.0))
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                held.add(len(chunk))
                reader.add(chunk)
    except TimeoutError as error:
        raise SlowBodyError(f"the body did not arrive within {timeout_s:.3g} s; send it faster") from error
    body = reader.end()
    held.add(len(body) - held.n_bytes)  # what it was unpacked to
    return body


class _PlainBody:
    """Collects a body that is not compressed."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._chunks: list[bytes] = []
        self._n_bytes = 0

    def add(self, chunk: bytes) -> None:
        """Take the next bytes."""
        self._n_bytes += len(chunk)
        if self._n_bytes > self._limits.body_bytes:
            raise _too_large(self._limits)
        self._chunks.append(chunk)

    def end(self) -> bytes:
        """Return the whole body."""
        return b"".join(self._chunks)


class _GzipBody:
    """A body that is decompressed as it arrives, never further than one byte over the limit."""

    def __init__(self, limits: Limits) -> None:
        self._compressed = _PlainBody(limits)
        self._plain = _PlainBody(limits)
        self._bytes_left = limits.body_bytes
        self._decompressor = zlib.decompressobj(GZIP)

    def add(self, chunk: bytes) -> None:
        """Take the next compressed bytes."""
        if not chunk:
            return
        self._compressed.add(chunk)
        if self._decompressor.eof:
            raise BadRequestError("the body continues after the end of its gzip member; send one member")
        try:
            plain = self._decompressor.decompress(chunk, self._bytes_left + 1)
        except zlib.error as error:
            raise BadRequestError(f"the body is not gzip ({error}), and its Content-Encoding says so") from error
        self._plain.add(plain)
        self._bytes_left -= len(plain)
        if self._decompressor.unused_data:
            raise BadRequestError("the body continues after the end of its gzip member; send one member")

    def end(self) -> bytes:
        """Return the whole body, decompressed."""
        if not self._decompressor.eof:
            raise BadRequestError("the gzip body is cut off; send all of it")
        return self._plain.end()


def _body_reader(encoding: str | None, limits: Limits) -> _PlainBody | _GzipBody:
    name = (encoding or "identity").strip().lower()
    if name == "identity":
        return _PlainBody(limits)
    if name in ("gzip", "x-gzip"):
        return _GzipBody(limits)
    raise UnsupportedError(f"Content-Encoding {name[:40]!r}; expected gzip, or none")


def _check_type(headers: Headers, operation: Operation) -> None:
    """Refuse what is not JSON in UTF-8, and what names no type where the operation wants one.

    A page of another site can make a browser send a body of no type, or of one that forms have, without asking first.
    """
    header = headers.get("content-type")
    if header in (None, OCTETS) and operation.json_length_header and operation.json_length_header in headers:
        return  # no browser sends this header to another site without asking first
    if header is None and operation.untyped_body and not any(name in headers for name in BROWSER_HEADERS):
        return
    if header is None:
        raise UnsupportedError("Content-Type is missing; expected application/json")
    if header == "application/json":
        return
    message = Message()
    message["Content-Type"] = header
    media, charset = message.get_content_type(), str(message.get_param("charset", "utf-8"))
    if media != "application/json" and not (media.startswith("application/") and media.endswith("+json")):
        raise UnsupportedError(f"Content-Type {header[:80]!r}; expected application/json")
    if charset.strip().lower() not in CHARSETS:
        raise UnsupportedError(f"charset {charset[:40]!r}; expected utf-8")


def _too_large(limits: Limits) -> TooLargeError:
    return TooLargeError(
        f"the body is over {limits.body_bytes} bytes, compressed or not; send the texts in several requests"
    )


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
