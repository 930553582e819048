"""Messages between the service and its engine process: msgpack, each frame preceded by its length."""

import asyncio
import socket
from collections.abc import Callable
from typing import TypeAlias

import msgspec

BATCHES_AT_HAND = 2
"""Batches that the engine has at once: it goes from one to the next without waiting for the service."""
LENGTH_BYTES = 4
"""Bytes of a frame's length, little-endian."""


class Open(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The first message: the graph to run."""

    model: str
    """The path of the file."""
    sha256: str
    n_labels: int
    pad_id: int
    threads: int
    """0: the CPUs that the process may use, its container's quota included."""
    dedicated: bool
    """Whether idle threads spin."""
    engine: str
    """The library that runs it: a key of `hybrid.runtime.engines.ENGINES`."""


class Opened(msgspec.Struct, frozen=True, tag=True):
    """The graph is the one that was named, and it runs."""

    threads: int
    in_bf16: bool
    """Whether the engine computes an fp32 graph in bf16."""
    has_evidence: bool
    """Whether its replies hold the logits of the tokens too: the graph has an evidence head."""


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The graph cannot be run; the engine ends."""

    reason: str


class Batch(msgspec.Struct, frozen=True, tag=True):
    """Rows of token ids to run at once; the engine pads them."""

    number: int
    """Its reply has the same number."""
    rows: list[list[int]]


class Logits(msgspec.Struct, frozen=True, tag=True):
    """The logits of a batch, float32, row after row: [n_labels], and then [length of the row] where there is an evidence head."""

    number: int
    values: bytes


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The graph raised on this batch; the engine continues."""

    number: int
    reason: str


ToWorker: TypeAlias = Open | Batch
FromWorker: TypeAlias = Opened | Refused | Logits | Failed

_encoder = msgspec.msgpack.Encoder()
_to_worker = msgspec.msgpack.Decoder(ToWorker)
_from_worker = msgspec.msgpack.Decoder(FromWorker)


def encode_frame(message: ToWorker | FromWorker) -> bytes:
    """Encode a message as a frame."""
    content = _encoder.encode(message)
    return len(content).to_bytes(LENGTH_BYTES, "little") + content


class FrameReader(asyncio.Protocol):
    """Calls `on_frame` with each message of the worker once it is complete, and `on_end` when the worker is gone."""

    def __init__(self, on_frame: Callable[[FromWorker], None], on_end: Callable[[], None]) -> None:
        self._on_frame = on_frame
        self._on_end = on_end
        self._received = bytearray()

    def data_received(self, data: bytes) -> None:
        """Take the next bytes of the socket."""
        self._received += data
        while len(self._received) >= LENGTH_BYTES:
            end = LENGTH_BYTES + int.from_bytes(self._received[:LENGTH_BYTES], "little")
            if len(self._received) < end:
                break
            message: FromWorker = _from_worker.decode(self._received[LENGTH_BYTES:end])
            del self._received[:end]
            self._on_frame(message)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report that the socket is closed, for whatever reason."""
        del exc  # a reset is an end like any other
        self._on_end()


def read_frame(connection: socket.socket) -> ToWorker | None:
    """Block until the next message of the service; None once the service is gone."""
    head = _read_exactly(connection, LENGTH_BYTES)
    content = head and _read_exactly(connection, int.from_bytes(head, "little"))
    return _to_worker.decode(content) if content else None


def _read_exactly(connection: socket.socket, n: int) -> bytes:
    """Return `n` bytes, or none if the other side closed before that."""
    content = bytearray()
    while len(content) < n:
        received = connection.recv(n - len(content))
        if not received:
            return b""
        content += received
    return bytes(content)
