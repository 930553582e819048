"""What a file's rows are on their way through the encoder, whatever the format."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from hybrid.types import Prediction

CHUNK_BYTES = 8 << 20
"""Of text, in one chunk of a line format: rows of any length stay in constant memory."""
Kind = Literal["text", "number", "flag", "probs"]
Cell = str | float | bool | dict[str, float] | None


class Problem(msgspec.Struct, frozen=True):
    """Why a row has no answer: where it is, what came, what was wanted."""

    reason: str


class Read(msgspec.Struct, frozen=True):
    """One row as it was read."""

    row: Any
    """The original, in whatever form its format writes it again."""
    text: str | Problem


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """Rows that are scored and written together; a file has at least one, perhaps without a row."""

    number: int
    texts: Sequence[str | Problem]
    rows: Any
    """The originals: a list, or a record batch."""
    header: Any = None
    """What the format needs beside the rows to write them again."""


class Columns(msgspec.Struct, frozen=True):
    """The columns that scoring adds, in their order."""

    kinds: dict[str, Kind]
    """By name, the prefix included."""
    labels: tuple[str, ...]
    """Of the bundle."""


class Format(Protocol):
    """A file format: read in chunks, written in parts, joined."""

    def chunks(self, source: Path, column: str, n_rows: int) -> Iterator[Chunk]:
        """Yield the rows in chunks of at most `n_rows`; the same file gives the same chunks.

        Raises:
            DataError: the file is not of this format, or has no such column.
        """

    def render(self, chunk: Chunk, cells: Sequence[Sequence[Cell]], columns: Columns) -> bytes:
        """Return a part of the output: each row with its added cells.

        Raises:
            DataError: the file has one of the added columns already.
        """

    def join(self, parts: Sequence[Path], target: Path) -> None:
        """Write the parts as one file, whole or not at all."""


def gather(rows: Iterable[Read], n_rows: int, header: Any = None) -> Iterator[Chunk]:
    """Yield rows in chunks of at most `n_rows` rows and, but for a single longer row, `CHUNK_BYTES` characters."""
    number, waiting, size = 0, list[Read](), 0
    for read in rows:
        characters = len(read.text) if isinstance(read.text, str) else 0
        if waiting and (len(waiting) == n_rows or size + characters > CHUNK_BYTES):
            yield _chunk(number, waiting, header)
            number, waiting, size = number + 1, [], 0
        waiting.append(read)
        size += characters
    if waiting or number == 0:
        yield _chunk(number, waiting, header)


def _chunk(number: int, reads: list[Read], header: Any) -> Chunk:
    return Chunk(number=number, texts=[one.text for one in reads], rows=[one.row for one in reads], header=header)


def columns_of(labels: tuple[str, ...], *, prefix: str, probs: bool, errors: bool) -> Columns:
    """Return the columns that are added: `probs` and `errors` say whether those two are."""
    kinds: dict[str, Kind] = {"label": "text", "confidence": "number", "escalate": "flag", "truncated": "flag"}
    if probs:
        kinds["probs"] = "probs"
    if errors:
        kinds["error"] = "text"
    return Columns({prefix + name: kind for name, kind in kinds.items()}, labels)


def cells_of(answer: Prediction | Problem, *, probs: bool, errors: bool) -> list[Cell]:
    """Return the added cells of one row, in the order of `columns_of`."""
    if isinstance(answer, Problem):
        return [*[None] * (4 + probs), *[answer.reason] * errors]
    cells: list[Cell] = [answer.label, answer.confidence, answer.escalate, answer.truncated]
    return cells + [answer.probs] * probs + [None] * errors
