"""What the service and its engine say to each other: msgpack, each frame after its length."""

import asyncio
import socket
from typing import TypeAlias

import msgspec

LENGTH = 4
"""Bytes that hold the length of a frame, the lowest first."""


class Open(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The first frame: the graph to run."""

    model: str
    """The path of the file."""
    sha256: str
    n_labels: int
    pad_id: int
    threads: int
    """0: the processors that the process may use and is paid for."""
    dedicated: bool


class Opened(msgspec.Struct, frozen=True, tag=True):
    """The graph is the one that was named, and it runs."""

    threads: int


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The graph cannot be run; the engine ends."""

    reason: str


class Batch(msgspec.Struct, frozen=True, tag=True):
    """Token ids to run at once; the engine pads them."""

    rows: list[list[int]]


class Logits(msgspec.Struct, frozen=True, tag=True):
    """The logits of a batch, float32, row after row."""

    values: bytes


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The graph raised on this batch; the engine goes on."""

    reason: str


Asked: TypeAlias = Open | Batch
Said: TypeAlias = Opened | Refused | Logits | Failed

_encoder = msgspec.msgpack.Encoder()
_asked = msgspec.msgpack.Decoder(Asked)
_said = msgspec.msgpack.Decoder(Said)


def pack(message: Asked | Said) -> bytes:
    """Return a message as a frame."""
    content = _encoder.encode(message)
    return len(content).to_bytes(LENGTH, "little") + content


async def hear(stream: asyncio.StreamReader) -> Said:
    """Return the next frame of the engine.

    Raises:
        asyncio.IncompleteReadError: the engine is gone.
    """
    length = int.from_bytes(await stream.readexactly(LENGTH), "little")
    said: Said = _said.decode(await stream.readexactly(length))
    return said


def take(connection: socket.socket) -> Asked | None:
    """Return the next frame of the service; None once it is gone."""
    head = _exactly(connection, LENGTH)
    content = head and _exactly(connection, int.from_bytes(head, "little"))
    return _asked.decode(content) if content else None


def _exactly(connection: socket.socket, n: int) -> bytes:
    """Return `n` bytes, or none where the other side closed before."""
    content = bytearray()
    while len(content) < n:
        more = connection.recv(n - len(content))
        if not more:
            return b""
        content += more
    return bytes(content)
