"""What every file format is read into, and what it can write: records, their values, and columns added to them."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from hybrid.errors import DataError

BATCH_ROWS = 1024
BATCH_CHARACTERS = 8 << 20
"""The most text in one batch of a line format, so that rows of any length are read in constant memory."""
SHOWN = 40
"""Characters of a value that an error message shows."""

ColumnKind = Literal["text", "number", "flag", "probs"]
Cell = str | float | bool | dict[str, float] | None
"""A value that is written to an added column."""


class NotText(msgspec.Struct, frozen=True):
    """A value that the file does not hold as a string."""

    spelling: str
    """How the file spells it: a jsonl `1.0` stays "1.0", a truth value is "true" or "false"."""
    kind: str
    """What it is, for messages: "number" and "boolean" can be used as text, "list" and others cannot."""


Value = str | NotText | None


class Record(msgspec.Struct, frozen=True, gc=False):
    """One row as it was read; it is in no reference cycle, so that the garbage collector need not look at it."""

    number: int
    """The line on which the record starts, or its row; the first is 1."""
    names: Collection[str]
    """All columns of the record."""
    values: Mapping[str, Value]
    """The values by column, for those of the requested columns that the record has."""
    problem: str = ""
    """Why the record cannot be read, with its place in the file; empty if it can."""
    byte: int = 0
    """The position of its first byte in the file; 0 in a format without lines."""


class Batch(msgspec.Struct, frozen=True):
    """Consecutive records that are held in memory together."""

    records: list[Record]
    originals: Any
    """The rows in the form in which their format writes them again."""


class Start(msgspec.Struct, frozen=True):
    """Where a record begins in its file."""

    number: int
    """As `Record.number`."""
    byte: int
    """As `Record.byte`."""


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """An open file."""

    name: str
    """What messages call the file."""
    header: tuple[str, ...] | None
    """The columns of every record; None in a format where each record names its own."""
    batches: Iterator[Batch]
    """The records, once and in order; there is at least one batch, which may be empty."""
    has_lines: bool = True
    """Whether the numbers of records count lines; they count rows otherwise."""
    other_types: Mapping[str, str] = {}
    """The declared type of each requested column that does not hold text, in a format that declares types."""
    note: str = ""
    """What the reader found that the file's name does not tell, such as another delimiter; a sentence about the file."""
    layout: Any = None
    """What the format needs, besides the rows, to write them again."""
    read_from: Callable[[Start], Iterator[Batch]] | None = None
    """Reads on from the first record of any batch, as `batches` does from there; None in a format that cannot, where the
    batches before that record are read for nothing."""

    def where(self, number: int) -> str:
        """Return what messages call record `number`."""
        return location_of(self.name, number, has_lines=self.has_lines)


class AddedColumns(msgspec.Struct, frozen=True):
    """Columns to write after those of the file."""

    kinds: dict[str, ColumnKind]
    """The kind by name, in the order of the columns."""
    labels: tuple[str, ...]
    """The keys of a value of the kind "probs"."""


class Format(Protocol):
    """A file format: how to read its records, and how to write them again with further columns."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """The endings of the names of its files, in lower case, such as `.csv`."""

    @property
    def can_write(self) -> bool:
        """Whether `render` and `join` work; a format may be for reading alone."""

    def open(
        self,
        path: Path,
        *,
        name: str,
        columns: Collection[str],
        batch_rows: int = BATCH_ROWS,
        with_originals: bool = False,
    ) -> AbstractContextManager[Table]:
        """Open a file for one pass; the same file and arguments give the same batches.

        Args:
            path: the file.
            name: what messages call it.
            columns: the columns whose values are needed; it is no error if one is missing.
            batch_rows: the most records of one batch.
            with_originals: whether the rows will be written again.

        Raises:
            DataError: the file cannot be read, is not of this format, or has a column twice. The batches raise it too.
            ConfigError: the format needs a package that is not installed.
        """

    def render(
        self, table: Table, batch: Batch, cells: Sequence[Sequence[Cell]], added: AddedColumns, *, first: bool
    ) -> bytes:
        """Return a part of a file: the rows of a batch, each with its added cells; `first` marks the first part."""

    def join(self, parts: Sequence[Path], target: Path) -> None:
        """Write the rendered parts as one file, whole or not at all."""


def location_of(name: str, number: int, *, has_lines: bool) -> str:
    """Return what messages call a record."""
    return f"{name}:{number}" if has_lines else f"{name}, row {number}"


def value_of(value: object) -> Value:
    """Return a Python value as a value of a record; NaN counts as missing."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return NotText("true" if value else "false", "boolean")
    if isinstance(value, int | float):
        return None if value != value else NotText(str(value), "number")
    return NotText(f"{value!r:.{SHOWN}}", type(value).__name__)


def class_name(number: int | None, names: Sequence[str]) -> Value:
    """Return the name of a class by its number; -1 marks a row without a label."""
    if number is None or number < 0:
        return None
    return names[number] if number < len(names) else value_of(number)


def text_of(value: Value, where: str, column: str) -> str | None:
    """Return a value as text; a number or a truth value keeps its spelling.

    Raises:
        DataError: it is a list or something else that has no one spelling.
    """
    if value is None or isinstance(value, str):
        return value
    if value.kind in ("number", "boolean"):
        return value.spelling
    raise DataError(f"{where}: {column} holds a {value.kind}; expected text, a number or a truth value")


def check_header(names: Sequence[str], where: str) -> None:
    """Check that no two columns have the same name; columns without a name cannot be asked for and do not count.

    Raises:
        DataError: two have.
    """
    seen: set[str] = set()
    for name in names:
        if name and name in seen:
            raise DataError(f"{where}: column {name!r} appears twice; give each column a name of its own")
        seen.add(name)


def in_batches(rows: Iterable[tuple[Record, Any]], batch_rows: int) -> Iterator[Batch]:
    """Yield records and their originals in batches of at most `batch_rows` rows and about `BATCH_CHARACTERS`.

    A single record may be longer. There is always one batch, which is empty if there are no rows.
    """
    batch = Batch([], [])
    n_characters, n_batches = 0, 0
    for record, original in rows:
        length = 0 if record.problem else sum(len(v) for v in record.values.values() if isinstance(v, str))
        if batch.records and (len(batch.records) == batch_rows or n_characters + length > BATCH_CHARACTERS):
            yield batch
            batch, n_characters, n_batches = Batch([], []), 0, n_batches + 1
        batch.records.append(record)
        batch.originals.append(original)
        n_characters += length
    if batch.records or not n_batches:
        yield batch
