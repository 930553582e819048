"""uvicorn's HTTP protocol with an end to its patience: heads that are slow or endless close the connection.

uvicorn bounds neither; a client that sends one byte a minute, or a header of a gigabyte, would stay for ever.
"""

import asyncio
import re
import secrets
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from serving.errors import BadRequestError
from serving.http.endpoint import error_response

HEAD_S = 10.0
"""From the first byte of a request, or from the connection, to the end of its headers."""
HEAD_BYTES = 64 << 10
"""Of the request line and the headers together."""

UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)


class BoundedHttpProtocol(HttpToolsProtocol):
    """Passed to uvicorn as `http`."""

    head_s = HEAD_S
    head_bytes = HEAD_BYTES
    url: bytes = b""
    _head_ends: asyncio.TimerHandle | None = None
    _came = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(CoalescingTransport(transport, self.loop))  # type: ignore[arg-type]
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._head_is_there()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, unless the head is too long by now."""
        super().data_received(_without_upgrade(data) if self._head_ends is not None else data)
        if self._head_ends is not None:
            self._came += len(data)
            if self._came > self.head_bytes:
                self._refuse(b"431 Request Header Fields Too Large")

    def on_message_begin(self) -> None:
        """Wait for the end of the headers."""
        super().on_message_begin()
        self._wait_for_head()

    def on_headers_complete(self) -> None:
        """Stop waiting; the body has limits of its own."""
        self._head_is_there()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Keep a chunk until the application takes it."""
        if not isinstance(self.cycle.body, bytearray):
            # Bytes would be copied for every chunk, and a client may send chunks of one byte.
            self.cycle.body = bytearray(self.cycle.body)  # type: ignore[assignment]
        super().on_body(body)

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are no HTTP in the words of the protocol that its path speaks, as far as that was read."""
        path = self.url.partition(b"?")[0].decode("ascii", "replace")
        reply = error_response(BadRequestError(f"{msg} Send HTTP/1.1 or 1.0"), path, secrets.token_hex(16))
        first = f"HTTP/1.1 {reply.status_code} {HTTPStatus(reply.status_code).phrase}\r\n".encode()
        head = b"".join(name + b": " + value + b"\r\n" for name, value in reply.raw_headers)
        self.transport.write(first + head + b"connection: close\r\n\r\n" + bytes(reply.body))
        self.transport.close()

    def _wait_for_head(self) -> None:
        if self._head_ends is None:
            self._came = 0
            self._head_ends = self.loop.call_later(self.head_s, self._refuse, b"408 Request Timeout")

    def _head_is_there(self) -> None:
        if self._head_ends is not None:
            self._head_ends.cancel()
            self._head_ends = None

    def _refuse(self, status: bytes) -> None:
        self._head_is_there()
        if not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self.transport.close()


def _without_upgrade(data: bytes) -> bytes:
    """Return the bytes with the head's offer of another protocol under a name that nobody reads.

    An offer may be passed over, and the parser takes what follows one for the other protocol: the body would be lost.
    Java's client offers HTTP/2 with its first request.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    return UPGRADE.sub(b"\r\nX-Offered:", head) + end + rest


class CoalescingTransport:
    """Stands for a transport. uvicorn writes head and body of a reply singly, and each would wake the client."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        """Return what the transport has under that name."""
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send the bytes with what else is written until the loop comes round."""
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
