"""A transport that sends at once what is written to it in one turn of the event loop."""

import asyncio
from typing import Any


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
