"""How a file separates its cells: found by its first lines, or named by its first line as Excel does (`sep=;`)."""

import csv
import io
import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from hybrid.files.formats.lines import INVISIBLE, LONGEST_LINE, not_utf8

if TYPE_CHECKING:
    from _csv import Reader

DELIMITERS: dict[str, str] = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
"""The delimiters that are looked for, and what messages call them."""
SAMPLE_BYTES = 256 << 10
"""How much of a file is read to find its dialect."""
_NAMED = re.compile(rb'"?sep=([^"\r\n])"?[\r\n]*', re.IGNORECASE)

Line = tuple[int, int, bytes]
"""The number of a line, the position of its first byte in the file, and the line with its end."""


class Dialect(msgspec.Struct, frozen=True):
    """How the cells of a line are told apart; quotes are always those of RFC 4180."""

    delimiter: str
    space_after: bool = False
    """Whether spaces after a delimiter belong to it, so that a quote may follow them."""
    is_named: bool = False
    """Whether the first line of the file is `sep=` with the delimiter."""

    def reader(self, lines: Iterable[str], *, strict: bool = True) -> "Reader":
        """Open a csv reader over lines."""
        return csv.reader(lines, delimiter=self.delimiter, skipinitialspace=self.space_after, strict=strict)

    def note(self, usual: str) -> str:
        """Return what to say of a dialect that is not what the file's name promises; empty if it is."""
        name = DELIMITERS.get(self.delimiter, repr(self.delimiter))
        if self.delimiter != usual:
            return f"its cells are separated by {name}" + (" and spaces" if self.space_after else "")
        return f"spaces after its {name} are left out" if self.space_after else ""


class Cells(msgspec.Struct, frozen=True, gc=False):
    """One row of a file as a dialect reads it."""

    number: int
    """The line on which it starts."""
    cells: list[str]
    problem: str = ""
    """Why the row cannot be read; its cells are then a guess."""
    byte: int = 0
    """The position of its first byte in the file."""


def split_lines(lines: Iterator[Line], *, first: int = 1) -> Iterator[Line]:
    """Yield lines that end with a carriage return, a line feed or both, as for Python's csv module; `first` is the number
    of the first one."""
    number = first - 1
    for _, start, ended in lines:
        for line in ended.splitlines(keepends=True):
            number += 1
            yield number, start, line
            start += len(line)


def column_name(cell: str) -> str:
    """Return the name of a column without the white space and the invisible characters around it."""
    return cell.strip().strip(INVISIBLE).strip()


def _named_delimiter(line: bytes) -> str:
    """Return the delimiter that a line such as `sep=;` names; empty if it is no such line."""
    match = _NAMED.fullmatch(line)
    return match[1].decode(errors="ignore") if match else ""


def find_dialect(sample: Sequence[Line], usual: str, columns: Collection[str], *, is_whole: bool) -> Dialect:
    """Find the dialect with which the first lines of a file make the best table.

    The best is the one whose header has most of the `columns` that are asked for, then one with several columns, then
    one in which every row has as many cells as the header; the usual delimiter of the format wins a tie.

    Args:
        sample: the first lines.
        usual: the delimiter that the file's name stands for.
        columns: the columns that will be read.
        is_whole: whether the sample is the whole file; its last row may be cut otherwise.
    """
    if sample and (named := _named_delimiter(sample[0][2])):
        return _with_spaces(sample[1:], Dialect(named, is_named=True))
    candidates = [usual, *(delimiter for delimiter in DELIMITERS if delimiter != usual)]
    dialects = [_with_spaces(sample, Dialect(delimiter)) for delimiter in candidates]
    return max(dialects, key=lambda dialect: _quality(sample, dialect, columns, is_whole=is_whole))


def _with_spaces(sample: Sequence[Line], dialect: Dialect) -> Dialect:
    """Add `space_after` where every name of the header has a space before it, or a quoted cell has one."""
    spaced = msgspec.structs.replace(dialect, space_after=True)
    lines = _Lines(iter(sample), "")
    for at, row in enumerate(_rows(lines, "", dialect)):
        names = row.cells[1:]
        if at == 0 and names and not set(names) & set(_guess(lines.of_row, spaced)[1:]):
            return spaced
        if _has_quote_after_space(row.cells, lines.of_row, dialect):
            return spaced
    return dialect


def _quality(sample: Sequence[Line], dialect: Dialect, columns: Collection[str], *, is_whole: bool) -> tuple[int, ...]:
    rows = list(_rows(_Lines(iter(sample), ""), "", dialect))
    if not is_whole:
        rows = rows[:-1]
    header = [column_name(cell) for cell in rows[0].cells] if rows else []
    is_even = all(not row.problem and fitted(row.cells, header) is not None for row in rows)
    return len(set(header) & set(columns)), len(header) > 1, is_even


def fitted(cells: list[str], header: Sequence[str]) -> list[str] | None:
    """Return a row with as many cells as the header, None if its number of cells is wrong.

    A spreadsheet may write empty cells beyond the header, and leave out those of columns without a name.
    """
    width = len(header)
    if len(cells) == width:
        return cells
    if any(cell.strip() for cell in cells[width:]) or any(header[len(cells) :]):
        return None
    return [*cells, *[""] * width][:width]


def read_rows(lines: Iterator[Line], name: str, dialect: Dialect) -> Iterator[Cells]:
    """Yield the rows of a file that are not blank; those that cannot be read carry the reason."""
    return _rows(_Lines(lines, name), name, dialect, may_end_within=False)


class _Lines:
    """The lines as text for `csv.reader`: those of the row that is being read, and why they are not UTF-8."""

    def __init__(self, lines: Iterator[Line], name: str) -> None:
        self._lines = lines
        self._name = name
        self._again: deque[Line] = deque()
        self._row: list[Line] = []
        self.of_row: list[str] = []
        self.problem = ""

    @property
    def first(self) -> int:
        """The number of the row's first line."""
        return self._row[0][0]

    @property
    def first_byte(self) -> int:
        """The position of the row's first line in the file."""
        return self._row[0][1]

    def start_row(self) -> None:
        """Forget the row that was read."""
        self._row, self.of_row, self.problem = [], [], ""

    def end_row_at_first_line(self) -> None:
        """Give the lines after the row's first one out again, as rows of their own."""
        self._again.extendleft(reversed(self._row[1:]))

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        ended = self._again.popleft() if self._again else next(self._lines)
        number, start, line = ended
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            self.problem = self.problem or not_utf8(self._name, number, start, error)
            text = line.decode(errors="replace")
        if not self._row:
            # Files that were put together have the mark of each at its start.
            text = text.removeprefix("\ufeff")
        self._row.append(ended)
        self.of_row.append(text)
        return text


def _rows(lines: _Lines, name: str, dialect: Dialect, *, may_end_within: bool = True) -> Iterator[Cells]:
    """Yield rows; a quote that is never closed spoils the line that it is on and no other.

    Args:
        lines: the lines of a file.
        name: what messages call it.
        dialect: how it separates its cells.
        may_end_within: whether the lines are a part of the file, whose last row may go on after it.
    """
    # The default limit of a cell would refuse long documents.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
    reader = dialect.reader(lines)
    while True:
        lines.start_row()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            hint = 'wrap a cell that holds a quote in quotes and write "" for each quote in it'
            problem = lines.problem or f"{name}:{lines.first}: not a well-formed line ({error}); {hint}"
            yield Cells(lines.first, _guess(lines.of_row, dialect), problem, lines.first_byte)
            if not may_end_within:
                lines.end_row_at_first_line()
            continue
        if not cells:
            continue
        problem = lines.problem
        if not problem and _has_quote_after_space(cells, lines.of_row, dialect):
            problem = f"{name}:{lines.first}: a space before a quote; remove it, or write one after every delimiter of the header"
        yield Cells(lines.first, cells, problem, lines.first_byte)


def _has_quote_after_space(cells: Sequence[str], lines: Sequence[str], dialect: Dialect) -> bool:
    """Whether a row has a quoted cell that begins after a space, which a dialect without such spaces splits wrongly."""
    mark = dialect.delimiter + " "
    if dialect.space_after or not any(mark in line and '"' in line for line in lines):
        return False
    text = "".join(lines)
    spaced = msgspec.structs.replace(dialect, space_after=True)
    # A quoted cell of several lines is still open at the end of what the plain dialect takes for the row.
    for whole in (text, text.rstrip("\r\n") + '"'):
        try:
            rows = list(spaced.reader(io.StringIO(whole, newline="")))
        except csv.Error:
            continue
        return (
            len(rows) != 1
            or len(rows[0]) != len(cells)
            or any(cell not in (plain, plain.lstrip(" ")) for plain, cell in zip(cells, rows[0], strict=True))
        )
    return False


def _guess(lines: Sequence[str], dialect: Dialect) -> list[str]:
    """Return the cells of a malformed row's first line as far as they can be told apart."""
    try:
        return next(dialect.reader(iter(lines[:1]), strict=False), [])
    except csv.Error:
        return []
