"""uvicorn's HTTP protocol with limits on the head of a request, and replies that leave in one piece.

uvicorn bounds neither the time nor the size of a head: a client that sends one byte a minute, or a header of a gigabyte,
would stay for ever. It has no public hook for that, so this file builds on `HttpToolsProtocol`, which is pinned below
its next minor release (`tests/serving/test_uvicorn_pin.py`).
"""

import asyncio
import re
import secrets
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.errors import BadRequestError
from serving.http.endpoint import error_response

HEAD_TIMEOUT_S = 10.0
"""From the start of the connection, or the first byte of a later request, to the end of the headers."""
MAX_HEAD_BYTES = 64 << 10
"""The most bytes that the request line and the headers may have together."""


class BoundedHttpProtocol(HttpToolsProtocol):
    """Passed to uvicorn as `http`."""

    head_timeout_s = HEAD_TIMEOUT_S
    max_head_bytes = MAX_HEAD_BYTES
    url: bytes = b""
    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(CoalescingTransport(transport, self.loop))  # type: ignore[arg-type]
        self._head_filter = HeadFilter()
        self._start_head_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Pass bytes on to the parser, without the head's offers of another protocol, unless the head is too long.

        A head that is pipelined behind a body in the same chunk is passed on as it is.
        """
        while data and not self.transport.is_closing():
            if not self._in_head:
                super().data_received(data)
                return
            # The parser's callbacks tell whether a body or another head follows this one.
            head, data = self._head_filter.filter(data)
            self._feed_head(head)

    def on_message_begin(self) -> None:
        """Start the timer of the head."""
        super().on_message_begin()
        self._start_head_timer()

    def on_headers_complete(self) -> None:
        """Stop the timer; the body has limits of its own."""
        self._in_head = False
        self._stop_head_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect another head after this."""
        self._in_head = True
        self._head_filter = HeadFilter()
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are not HTTP in the error format of the path, as far as that was read."""
        path = self.url.partition(b"?")[0].decode("ascii", "replace")
        reply = error_response(BadRequestError(f"{msg} Send HTTP/1.1 or 1.0"), path, secrets.token_hex(16))
        first = f"HTTP/1.1 {reply.status_code} {HTTPStatus(reply.status_code).phrase}\r\n".encode()
        head = b"".join(name + b": " + value + b"\r\n" for name, value in reply.raw_headers)
        self.transport.write(first + head + b"connection: close\r\n\r\n" + bytes(reply.body))
        self.transport.close()

    def _feed_head(self, head: bytes) -> None:
        super().data_received(head)
        if self._head_timer is not None:
            self._head_bytes += len(head)
            if self._head_bytes > self.max_head_bytes:
                self._refuse(b"431 Request Header Fields Too Large")

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


class HeadFilter:
    """Finds the end of one head and renames its `Upgrade` header, wherever the bytes are cut into chunks.

    A server may ignore the offer of another protocol, but the parser takes what follows one for that protocol, and the
    body would be lost. Java's client offers HTTP/2 with its first request.
    """

    END = b"\r\n\r\n"
    NAME = b"upgrade:"
    RENAMED = b"x-offer:"
    _OFFER = re.compile(rb"(?<=\n)upgrade:", re.IGNORECASE)

    def __init__(self) -> None:
        self._tail = b""
        """The last bytes returned, as many as may begin the end of the head."""
        self._held = b""
        """Bytes that may begin the header's name, not returned yet."""

    def filter(self, data: bytes) -> tuple[bytes, bytes]:
        """Return the bytes of the head to parse now, and those behind its end."""
        known = len(self._tail)
        data = self._tail + self._held + data
        end = data.find(self.END)
        head, rest = (data, b"") if end < 0 else (data[: end + len(self.END)], data[end + len(self.END) :])
        head = self._OFFER.sub(self.RENAMED, head)
        before, newline, line = head.rpartition(b"\n")
        may_be_name = bool(newline) and 0 < len(line) < len(self.NAME) and self.NAME.startswith(line.lower())
        head, self._held = (before + newline, line) if may_be_name else (head, b"")
        self._tail = b"" if end >= 0 else head[1 - len(self.END) :]
        return head[known:], rest


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
