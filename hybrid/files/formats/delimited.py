"""csv and tsv with a header, quoted as RFC 4180 has it; blank lines are skipped."""

import csv
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import msgspec

from hybrid.errors import DataError
from hybrid.files.formats.lines import LONGEST_LINE, join_bytes, not_utf8, read_lines
from hybrid.files.formats.records import (
    BATCH_ROWS,
    AddedColumns,
    Batch,
    Cell,
    Record,
    Table,
    check_header,
    in_batches,
)


class Delimited:
    """A table with a delimiter between its cells."""

    def __init__(self, delimiter: str, suffixes: tuple[str, ...]) -> None:
        self._delimiter = delimiter
        self.suffixes = suffixes

    @contextmanager
    def open(
        self,
        path: Path,
        *,
        name: str,
        columns: Collection[str],
        batch_rows: int = BATCH_ROWS,
        with_originals: bool = False,
    ) -> Iterator[Table]:
        """Open a file; its header is the first line that is not blank. Every record has as many cells as the header."""
        with closing(read_lines(path, name)) as lines:
            rows = _rows(lines, name, self._delimiter)
            number, cells, problem = next(rows, (1, [], ""))
            if problem:
                raise DataError(problem)
            header = tuple(cell.strip() for cell in cells)
            check_header(header, f"{name}:{number}")
            records = _records(rows, name, header, columns, with_originals=with_originals)
            yield Table(name=name, header=header, batches=in_batches(records, batch_rows), layout=cells)

    def render(
        self, table: Table, batch: Batch, cells: Sequence[Sequence[Cell]], added: AddedColumns, *, first: bool
    ) -> bytes:
        """Return a line a row, the added cells last; the first part starts with the header."""
        page = _Page()
        writer = csv.writer(page, delimiter=self._delimiter)
        if first:
            writer.writerow([*table.layout, *added.kinds])
        for row, row_cells in zip(batch.originals, cells, strict=True):
            writer.writerow([*row, *map(_spelling, row_cells)])
        return "".join(page.lines).encode()

    def join(self, parts: Sequence[Path], target: Path) -> None:
        """Write the parts one after the other."""
        join_bytes(parts, target)


class _Page:
    """The lines of `csv.writer`, each with a line feed alone at its end.

    The writer itself must end them with a carriage return too: it quotes a cell with one for no other reason, and a
    reader takes an unquoted one for the end of the line.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []

    def write(self, line: str) -> None:
        self.lines.append(line.removesuffix("\r\n") + "\n")


class _Text:
    """The lines as text for `csv.reader`, and why the lines of the record that is being read are not UTF-8.

    A line ends with a carriage return, a line feed or both, as for Python's csv module.
    """

    def __init__(self, lines: Iterator[tuple[int, int, bytes]], name: str) -> None:
        self._lines = lines
        self._name = name
        self.problem = ""

    def __iter__(self) -> Iterator[str]:
        number = 0
        for _, start, ended in self._lines:
            for line in ended.splitlines(keepends=True):
                number += 1
                try:
                    text = line.decode()
                except UnicodeDecodeError as error:
                    self.problem = self.problem or not_utf8(self._name, number, start, error)
                    text = line.decode(errors="replace")
                start += len(line)
                yield text


def _rows(lines: Iterator[tuple[int, int, bytes]], name: str, delimiter: str) -> Iterator[tuple[int, list[str], str]]:
    """Yield the line on which each row starts, its cells, and why it cannot be read (empty if it can)."""
    # The default limit of a cell would refuse long documents.
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
    text = _Text(lines, name)
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    while True:
        number, text.problem = reader.line_num + 1, ""
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            hint = 'wrap a cell that holds a quote in quotes and write "" for each quote in it'
            yield number, [], text.problem or f"{name}:{number}: not a well-formed line ({error}); {hint}"
            continue
        if cells:
            yield number, cells, text.problem


def _records(
    rows: Iterator[tuple[int, list[str], str]],
    name: str,
    header: tuple[str, ...],
    columns: Collection[str],
    *,
    with_originals: bool,
) -> Iterator[tuple[Record, list[str] | None]]:
    width = len(header)
    places = [(column, header.index(column)) for column in dict.fromkeys(columns) if column in header]
    for number, cells, problem in rows:
        if len(cells) != width:
            problem = problem or (
                f"{name}:{number}: expected {width} cells as in the header, got {len(cells)}; quote cells that hold "
                "the delimiter"
            )
            cells = [*cells, *[""] * width][:width]
        values = {column: cells[at] for column, at in places}
        yield Record(number, header, values, problem), cells if with_originals else None


def _spelling(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool | dict):
        return msgspec.json.encode(cell).decode()
    return str(cell)
