"""uvicorn's HTTP protocol with limits on the head of a request, and replies that leave in one piece.

uvicorn bounds neither the time nor the size of a head: a client that sends one byte a minute, or a header of a gigabyte,
would stay for ever. It has no public hook for that, so this file builds on `HttpToolsProtocol`, which is pinned below
its next minor release (`tests/serving/test_uvicorn_pin.py`).
"""

import asyncio
import secrets
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.errors import BadRequestError, ServingError
from serving.http.endpoint import error_response
from serving.http.head import HeadFilter, header_error, url_error
from serving.http.middleware import without_prefix

HEAD_TIMEOUT_S = 10.0
"""From the start of the connection, or the first byte of a later request, to the end of the headers."""
MAX_HEAD_BYTES = 64 << 10
"""The most bytes that the request line and the headers may have together."""
REST_TIMEOUT_S = 10.0
"""How long the rest of a body is read whose request has its reply already, such as one that is too large."""
STALLED_S = 30.0
"""How long a client may leave its replies unread; then its connection is closed."""
SLICE_BYTES = 4 << 10
"""The most bytes of a head that are parsed at once."""
MOST_CUTS = 64
"""How often one chunked body is cut where it may end. JSON has empty lines in no text, so it needs one cut."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """Passed to uvicorn as `http`."""

    head_timeout_s = HEAD_TIMEOUT_S
    max_head_bytes = MAX_HEAD_BYTES
    rest_timeout_s = REST_TIMEOUT_S
    stalled_s = STALLED_S
    path_prefix = ""
    """The prefix that a proxy in front leaves in paths (`Settings.root_path`)."""
    url: bytes = b""
    _head_timer: asyncio.TimerHandle | None = None
    _rest_timer: asyncio.TimerHandle | None = None
    _stall_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = True
    _body_left: int | None = None
    """The bytes of the body that are still to come; None for a chunked body."""
    _tail = b""
    """The last bytes of a chunked body, as many as may begin its end."""
    _cuts_left = MOST_CUTS
    _refusal: ServingError | None = None
    """Why the head is refused, where it is."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(CoalescingTransport(transport, self.loop))  # type: ignore[arg-type]
        self._unread = bytearray()
        self._head_filter = HeadFilter()
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        self._unread.clear()
        self._stop_head_timer()
        for timer in (self._rest_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on to the parser, without the head's offers of another protocol, unless the head is too long."""
        self._unread += data
        self._read()

    def on_message_begin(self) -> None:
        """Start the timer of the head."""
        super().on_message_begin()
        self._start_head_timer()

    def on_url(self, url: bytes) -> None:
        """Refuse a URL that is too long."""
        super().on_url(url)
        self._stop_parsing_at(url_error(len(self.url)))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Refuse a header that is too long, before anything parses it."""
        super().on_header(name, value)
        self._stop_parsing_at(header_error(name.lower(), value, len(self.headers)))

    def on_headers_complete(self) -> None:
        """Stop the timer; the body has limits of its own."""
        self._in_head = False
        self._stop_head_timer()
        self._tail, self._cuts_left = b"", MOST_CUTS
        # The parser has checked them: a length is a number, and stands beside no transfer encoding.
        lengths = [int(value) for name, value in self.headers if name == b"content-length"]
        self._body_left = lengths[0] if lengths else None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect another head after this."""
        self._in_head = True
        self._head_filter = HeadFilter()
        if self._rest_timer is not None:
            self._rest_timer.cancel()
            self._rest_timer = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on with what was sent behind the request, or wait a while for the rest of its body."""
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if not self._in_head:
            self._rest_timer = self.loop.call_later(self.rest_timeout_s, self.transport.close)
        if self._unread:
            self.loop.call_soon(self._read)

    def pause_writing(self) -> None:
        """Wait a while for a client that does not read its replies."""
        super().pause_writing()
        self._stall_timer = self.loop.call_later(self.stalled_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Stop the timer: the client reads."""
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    def send_400_response(self, msg: str) -> None:
        """Refuse a head that is too large or no HTTP, in the error format of the path, as far as that was read."""
        path = without_prefix(self.url.partition(b"?")[0].decode("ascii", "replace"), self.path_prefix)
        refusal = self._refusal or BadRequestError(f"{msg} Send HTTP/1.1 or 1.0")
        reply = error_response(refusal, path, secrets.token_hex(16))
        first = f"HTTP/1.1 {reply.status_code} {HTTPStatus(reply.status_code).phrase}\r\n".encode()
        head = b"".join(name + b": " + value + b"\r\n" for name, value in reply.raw_headers)
        self.transport.write(first + head + b"connection: close\r\n\r\n" + bytes(reply.body))
        self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """End the connection with this reply: the parser takes all that follows, such as behind CONNECT, for a tunnel."""
        self._unread.clear()
        self.cycle.keep_alive = False

    def _stop_parsing_at(self, error: ServingError | None) -> None:
        """Have the parser stop where there is an error: uvicorn then calls `send_400_response`."""
        if error is not None:
            self._refusal = error
            raise error

    def _read(self) -> None:
        """Parse what has arrived, but only one request beyond the one that is being answered."""
        while self._unread and not self.transport.is_closing():
            if self.pipeline:
                self.flow.pause_reading()
                return
            # The parser's callbacks tell whether a body or another head follows.
            if self._in_head:
                self._read_head()
            else:
                super().data_received(self._next_of_body())

    def _read_head(self) -> None:
        self._start_head_timer()  # an empty line before a request is a part of its head
        data = bytes(self._unread[:SLICE_BYTES])
        head, rest = self._head_filter.filter(data)
        n_read = len(data) - len(rest)
        del self._unread[:n_read]
        super().data_received(head)
        if self._head_timer is not None:
            self._head_bytes += n_read
            if self._head_bytes > self.max_head_bytes:
                self._refuse(b"431 Request Header Fields Too Large")

    def _next_of_body(self) -> bytes:
        """Take what belongs to the body: up to its length, or where it is chunked, up to where it may end."""
        if self._body_left is not None:
            end = self._body_left or len(self._unread)
            self._body_left = max(0, end - len(self._unread))
        else:
            end = self._next_cut()
        part = bytes(self._unread[:end])
        del self._unread[:end]
        return part

    def _next_cut(self) -> int:
        """The number of bytes up to where the chunked body may end: behind an empty line, which may arrive in parts."""
        if not self._cuts_left:
            return len(self._unread)
        known, data = len(self._tail), self._tail + self._unread
        at = data.find(HeadFilter.END)
        end = len(data) if at < 0 else at + len(HeadFilter.END)
        self._cuts_left -= at >= 0
        self._tail = bytes(data[max(0, end + 1 - len(HeadFilter.END)) : end])
        return end - known

    def _start_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_bytes = 0
            self._head_timer = self.loop.call_later(self.head_timeout_s, self._refuse, b"408 Request Timeout")

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse(self, status: bytes) -> None:
        self._stop_head_timer()
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()


def protocol_below(prefix: str) -> type[BoundedHttpProtocol]:
    """Build the protocol of a service whose paths may begin with `prefix`."""
    return type(BoundedHttpProtocol.__name__, (BoundedHttpProtocol,), {"path_prefix": prefix})


class CoalescingTransport:
    """Stands in for a transport and sends at once what is written to it in one turn of the event loop.

    uvicorn writes the head and the body of a reply separately, and each write would wake the client.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        """Everything but `write` and `close` is the transport's own."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send the bytes together with what else is written in this turn of the loop."""
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        """Send what was written, then close."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        parts, self._parts = self._parts, []
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))
