"""csv and tsv with a header, quoted as RFC 4180 has it; blank lines are skipped, and the delimiter is found."""

import csv
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from itertools import chain
from pathlib import Path

import msgspec

from hybrid.errors import DataError
from hybrid.files.formats.dialect import (
    SAMPLE_BYTES,
    Cells,
    Dialect,
    Line,
    column_name,
    find_dialect,
    fitted,
    read_rows,
    split_lines,
)
from hybrid.files.formats.lines import join_bytes, read_lines
from hybrid.files.formats.records import (
    BATCH_ROWS,
    AddedColumns,
    Batch,
    Cell,
    Record,
    Start,
    Table,
    check_header,
    in_batches,
)


class Layout(msgspec.Struct, frozen=True):
    """What the rows of a file need to be written again."""

    header: Sequence[str]
    """The names of the columns as the file spells them."""
    dialect: Dialect


class Delimited:
    """A table with a delimiter between its cells: the one that the name of the file promises, or the one found in it."""

    can_write = True

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
        with closing(read_lines(path, name)) as ended_lines:
            lines = split_lines(ended_lines)
            sample, is_whole = _sample(lines)
            if sample and b"\0" in sample[0][2]:
                raise DataError(f"{name}:1: NUL characters, as UTF-16 has them; save the file as UTF-8")
            dialect = find_dialect(sample, self._delimiter, columns, is_whole=is_whole)
            rows = read_rows(chain(sample[dialect.is_named :], lines), name, dialect)
            first = next(rows, Cells(1, []))
            if first.problem:
                raise DataError(first.problem)
            header = tuple(column_name(cell) for cell in first.cells)
            check_header(header, f"{name}:{first.number}")
            records = partial(_records, name=name, header=header, columns=columns, with_originals=with_originals)

            def read_from(start: Start) -> Iterator[Batch]:
                with closing(read_lines(path, name, start)) as later:
                    later_rows = read_rows(split_lines(later, first=start.number), name, dialect)
                    yield from in_batches(records(later_rows), batch_rows)

            yield Table(
                name=name,
                header=header,
                batches=in_batches(records(rows), batch_rows),
                note=dialect.note(self._delimiter),
                layout=Layout(first.cells, dialect),
                read_from=read_from,
            )

    def render(
        self, table: Table, batch: Batch, cells: Sequence[Sequence[Cell]], added: AddedColumns, *, first: bool
    ) -> bytes:
        """Return a line a row, the added cells last; the first part starts with the header."""
        page = _Page()
        dialect = table.layout.dialect
        writer = csv.writer(page, delimiter=dialect.delimiter)
        if first:
            if dialect.is_named:
                page.write(f"sep={dialect.delimiter}\r\n")
            writer.writerow([*table.layout.header, *added.kinds])
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


def _sample(lines: Iterator[Line]) -> tuple[list[Line], bool]:
    """Take the first lines of a file; return them, and whether they are all."""
    sample: list[Line] = []
    for line in lines:
        sample.append(line)
        if line[1] + len(line[2]) > SAMPLE_BYTES:
            return sample, False
    return sample, True


def _records(
    rows: Iterator[Cells], *, name: str, header: tuple[str, ...], columns: Collection[str], with_originals: bool
) -> Iterator[tuple[Record, list[str] | None]]:
    width = len(header)
    places = [(column, header.index(column)) for column in dict.fromkeys(columns) if column and column in header]
    for row in rows:
        cells, problem = fitted(row.cells, header), row.problem
        if cells is None:
            problem = problem or (
                f"{name}:{row.number}: expected {width} cells as in the header, got {len(row.cells)}; quote cells that "
                "hold the delimiter"
            )
            cells = [*row.cells, *[""] * width][:width]
        values = {column: cells[at] for column, at in places}
        yield Record(row.number, header, values, problem, row.byte), cells if with_originals else None


def _spelling(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool | dict):
        return msgspec.json.encode(cell).decode()
    return str(cell)
