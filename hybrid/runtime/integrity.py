"""Verifies a bundle: its files are unchanged, and its golden texts get the recorded probabilities on this machine."""

import errno
import hashlib
import mmap
import os
import re
import stat
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path

import msgspec
import numpy as np

from hybrid.errors import BundleError, GoldenError
from hybrid.runtime.engines import DEFAULT_ENGINE

N_TEXTS = 5
MAX_CHARACTERS = 2000
"""A longer golden text would make every load slow."""
TOLERANCE = {"fp32": 1e-3}
"""By precision, how far a probability may be from the bundle's."""
TOLERANCE_BELOW_FP32 = 2e-2
"""CPUs round int8 differently. A CPU without VNNI can saturate and exceed this tolerance by far."""


class Golden(msgspec.Struct, frozen=True, kw_only=True):
    """A text and the calibrated probabilities that the bundle gave it when it was made."""

    text: str
    probs: tuple[float, ...]
    """In the order of the labels."""


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading. A FIFO or a device is refused without waiting for it.

    Raises:
        OSError: there is no such file, it cannot be read, or it is not a regular file.
    """
    _check_regular(path, path.stat())
    # Not blocking: a FIFO may have taken the place of the file since.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _check_regular(path, os.fstat(descriptor))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check_regular(path: Path, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "Not a regular file", str(path))


def check_file(path: Path, sha256: str) -> None:
    """Compare the SHA-256 of a bundle's file with the one in its manifest.

    Raises:
        BundleError: the file is missing or was changed.
    """
    try:
        with open_regular(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError as error:
        raise BundleError(f"{path}: missing from the bundle ({error.strerror}); copy the bundle again") from error
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); copy the bundle again") from error
    if digest != sha256:
        raise BundleError(
            f"{path}: changed since the bundle was made (expected SHA-256 {sha256[:12]}…, got {digest[:12]}…); "
            "copy the bundle again or rerun the recipe"
        )


_EXTERNAL = re.compile(rb"\x0a\x08location\x12")
"""An entry `location` of a tensor's `external_data` in the protobuf format of ONNX; its value follows with its length."""
_LONGEST_VARINT = 5


def external_files(graph: Path) -> set[str]:
    """Return the names of the files beside a graph that its weights are in.

    Raises:
        OSError: the graph cannot be read.
    """
    with open_regular(graph) as file:
        if not os.fstat(file.fileno()).st_size:
            return set()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return {_text_at(content, match.end()) for match in _EXTERNAL.finditer(content)}


def _text_at(content: mmap.mmap, start: int) -> str:
    """Read a protobuf string: its length as a varint, then its bytes."""
    length = 0
    for n, byte in enumerate(content[start : start + _LONGEST_VARINT]):
        length |= (byte & 0x7F) << (7 * n)
        if byte < 0x80:
            return content[start + n + 1 : start + n + 1 + length].decode("utf-8", "replace")
    return ""


def golden_texts(texts: Sequence[str], n: int = N_TEXTS) -> list[str]:
    """Choose at most `n` of the texts, spread from short to long; the very longest are passed over."""
    by_length = sorted({text for text in texts if len(text) <= MAX_CHARACTERS}, key=lambda text: (len(text), text))
    if len(by_length) <= n:
        return by_length
    return [by_length[i] for i in np.linspace(0, len(by_length) - 1, n).round().astype(int)]


def check_golden(
    golden: Sequence[Golden],
    probs: np.ndarray,
    *,
    precision: str,
    folder: Path,
    engine: str = DEFAULT_ENGINE,
    other_versions: str = "",
) -> None:
    """Compare the probabilities [n, k] that the golden texts get here with those that the bundle recorded.

    `precision` is what `engine` computes in, which sets how far they may be from each other.
    `other_versions` names the packages that the bundle was made with and that have another version here.

    Raises:
        GoldenError: one differs by more than another CPU's rounding explains.
    """
    tolerance = TOLERANCE.get(precision, TOLERANCE_BELOW_FP32)
    for example, row in zip(golden, probs, strict=True):
        expected = np.asarray(example.probs)
        worst = float(np.abs(row - expected).max()) if len(row) == len(expected) else float("inf")
        if not worst <= tolerance:
            raise GoldenError(
                f"{folder}: the golden text {example.text!r:.40} has a probability that is {worst:.2g} off, expected "
                f"at most {tolerance:g}: this processor or {engine} computes the {precision} graph otherwise than "
                f"where it was made{_with(other_versions)}; {_remedy(engine)}"
            )


def _remedy(engine: str) -> str:
    if engine != DEFAULT_ENGINE:
        return f"take the engine {DEFAULT_ENGINE}"
    return "make the bundle here, or one that carries the fp32 graph too, with `hybrid bundle RUN FOLDER --portable`"


def _with(other_versions: str) -> str:
    return f", with {other_versions}" if other_versions else ""
