"""GGUF weights in an encoding that llama.cpp multiplies fast.

llama.cpp has no matrix kernel for Q4_1 on x86: it reads a prompt no faster than token by token. For Q8_0 it has
one. The format: github.com/ggml-org/ggml, docs/gguf.md; the blocks: `block_q4_1` and `block_q8_0` in ggml-common.h.
"""

import itertools
import struct
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

_Q4_1, _Q8_0 = 3, 8
_BLOCK = 32
"""Weights that share a scale."""
_Q4_1_BYTES = 20
_SCALARS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes by the kind of a metadata value."""
_STRING, _ARRAY = 8, 9
_ALIGNMENT = 32


class _Tensor(msgspec.Struct, frozen=True):
    name: bytes
    shape: tuple[int, ...]
    kind: int
    offset: int


class _Reader:
    """A position in the bytes of a GGUF header."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.at = 0

    def number(self, form: str) -> int:
        (found,) = struct.unpack_from(f"<{form}", self.data, self.at)
        self.at += struct.calcsize(f"<{form}")
        return int(found)

    def string(self) -> bytes:
        size = self.number("Q")
        self.at += size
        return bytes(self.data[self.at - size : self.at])

    def skip_value(self, kind: int) -> None:
        if kind == _STRING:
            self.string()
        elif kind == _ARRAY:
            of, count = self.number("I"), self.number("Q")
            for _ in range(count if of in (_STRING, _ARRAY) else 0):
                self.skip_value(of)
            self.at += count * _SCALARS.get(of, 0)
        else:
            self.at += _SCALARS[kind]


def with_fast_weights(path: Path) -> bytes | None:
    """Return the file with its Q4_1 tensors in Q8_0; None where it has none, or is laid out in a way unknown here.

    A weight moves by at most 1/254 of the largest of its block.
    """
    data = memoryview(path.read_bytes())
    reader = _Reader(data)
    if bytes(data[:4]) != b"GGUF":
        return None
    reader.at = 8
    n_tensors, n_values = reader.number("Q"), reader.number("Q")
    for _ in range(n_values):
        if reader.string() == b"general.alignment":
            return None
        reader.skip_value(reader.number("I"))
    head = bytes(data[: reader.at])
    tensors = [_tensor(reader) for _ in range(n_tensors)]
    if all(tensor.kind != _Q4_1 for tensor in tensors):
        return None
    weights = data[_aligned(reader.at) :]
    return _joined(head, tensors, [_fast(one, end, weights) for one, end in _with_ends(tensors, len(weights))])


def _tensor(reader: _Reader) -> _Tensor:
    name, rank = reader.string(), reader.number("I")
    shape = tuple(reader.number("Q") for _ in range(rank))
    return _Tensor(name, shape, reader.number("I"), reader.number("Q"))


def _with_ends(tensors: Sequence[_Tensor], size: int) -> list[tuple[_Tensor, int]]:
    """Return each tensor with the offset at which its bytes, padding included, end."""
    starts = sorted({tensor.offset for tensor in tensors} | {size})
    after = dict(itertools.pairwise(starts))
    return [(tensor, after[tensor.offset]) for tensor in tensors]


def _fast(tensor: _Tensor, end: int, weights: memoryview) -> bytes:
    if tensor.kind != _Q4_1:
        return bytes(weights[tensor.offset : end])
    n_blocks = int(np.prod(tensor.shape)) // _BLOCK
    raw = np.frombuffer(weights, np.uint8, n_blocks * _Q4_1_BYTES, tensor.offset).reshape(n_blocks, _Q4_1_BYTES)
    return to_q8_0(from_q4_1(raw)).tobytes()


def from_q4_1(raw: np.ndarray) -> np.ndarray:
    """Return the weights, float32 [n, 32], of blocks, bytes [n, 20]: scale, minimum, and 32 half bytes."""
    scale, least = (raw[:, i : i + 2].copy().view(np.float16).astype(np.float32) for i in (0, 2))
    steps = np.concatenate([raw[:, 4:] & 15, raw[:, 4:] >> 4], axis=1)
    return np.asarray(scale * steps + least, dtype=np.float32)


def to_q8_0(weights: np.ndarray) -> np.ndarray:
    """Return blocks, bytes [n, 34], of weights [n, 32]: a scale and 32 whole numbers from -127 to 127."""
    scale = (np.abs(weights).max(axis=1, keepdims=True) / 127).astype(np.float16)
    wide = scale.astype(np.float32)
    steps = np.divide(weights, wide, out=np.zeros_like(weights), where=wide != 0)
    whole = np.clip(np.rint(steps), -127, 127).astype(np.int8)
    return np.concatenate([scale.view(np.uint8), whole.view(np.uint8)], axis=1)


def _joined(head: bytes, tensors: Sequence[_Tensor], contents: Sequence[bytes]) -> bytes:
    """Return a whole file: metadata, the tensors' descriptions, and their aligned contents."""
    described, body = bytearray(head), bytearray()
    for tensor, content in zip(tensors, contents, strict=True):
        kind = _Q8_0 if tensor.kind == _Q4_1 else tensor.kind
        described += struct.pack("<Q", len(tensor.name)) + tensor.name + struct.pack("<I", len(tensor.shape))
        described += struct.pack(f"<{len(tensor.shape)}QIQ", *tensor.shape, kind, len(body))
        body += content
        body += bytes(_aligned(len(body)) - len(body))
    return bytes(described) + bytes(_aligned(len(described)) - len(described)) + bytes(body)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT) * _ALIGNMENT
