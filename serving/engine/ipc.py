"""What the service and its engine say to each other: msgpack, each frame after its length."""

import asyncio
import socket
from collections.abc import Callable
from typing import TypeAlias

import msgspec

BATCHES_AT_HAND = 2
"""That the engine has: it goes from one to the next without waiting to be told."""
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

    number: int
    """Its answer has the same."""
    rows: list[list[int]]


class Logits(msgspec.Struct, frozen=True, tag=True):
    """The logits of a batch, float32, row after row."""

    number: int
    values: bytes


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The graph raised on this batch; the engine goes on."""

    number: int
    reason: str


ToWorker: TypeAlias = Open | Batch
FromWorker: TypeAlias = Opened | Refused | Logits | Failed

_encoder = msgspec.msgpack.Encoder()
_asked = msgspec.msgpack.Decoder(ToWorker)
_said = msgspec.msgpack.Decoder(FromWorker)


def encode_frame(message: ToWorker | FromWorker) -> bytes:
    """Return a message as a frame."""
    content = _encoder.encode(message)
    return len(content).to_bytes(LENGTH, "little") + content


class FrameReader(asyncio.Protocol):
    """Passes on each frame of the engine as it is complete, and at last that the engine is gone."""

    def __init__(self, on_frame: Callable[[FromWorker], None], on_end: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_end = on_end
        self._came = bytearray()

    def data_received(self, data: bytes) -> None:
        """Take the next bytes of the socket."""
        self._came += data
        while len(self._came) >= LENGTH:
            end = LENGTH + int.from_bytes(self._came[:LENGTH], "little")
            if len(self._came) < end:
                break
            said: FromWorker = _said.decode(self._came[LENGTH:end])
            del self._came[:end]
            self._on_frame(said)

    def connection_lost(self, exc: Exception | None) -> None:
        """Hear that the socket is closed, for whatever reason."""
        del exc  # a reset is an end like any other
        self._on_end()


def take(connection: socket.socket) -> ToWorker | None:
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
