"""csv and tsv with a header, quoted as RFC 4180 has it."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from hybrid.errors import DataError
from hybrid.scoring.jsonl import join_bytes
from hybrid.scoring.lines import LONGEST_LINE, read_lines
from hybrid.scoring.rows import Cell, Chunk, Columns, Problem, Read, gather


class Delimited:
    """A table whose cells stand between delimiters."""

    def __init__(self, delimiter: str) -> None:
        self._delimiter = delimiter

    def chunks(self, source: Path, column: str, n_rows: int) -> Iterator[Chunk]:
        """Yield the rows; blank lines are passed over.

        Raises:
            DataError: no header, a column twice, or no such column.
        """
        records = self._records(source)
        _, header = next(records, ("", []))
        if isinstance(header, Problem):
            raise DataError(header.reason)
        _check_header(source, header, column)
        place = header.index(column)
        reads = (_read(where, cells, header, place) for where, cells in records)
        yield from gather(reads, n_rows, header)

    def render(self, chunk: Chunk, cells: Sequence[Sequence[Cell]], columns: Columns) -> bytes:
        """Return a line a row, the added cells last; the first part starts with the header.

        Raises:
            DataError: the header has one of the added columns already.
        """
        taken = columns.kinds.keys() & set(chunk.header)
        if taken:
            raise DataError(f"there is a column {min(taken)!r} already; choose another prefix with --prefix")
        page = io.StringIO(newline="")
        writer = csv.writer(page, delimiter=self._delimiter, lineterminator="\n")
        if chunk.number == 0:
            writer.writerow([*chunk.header, *columns.kinds])
        for row, added in zip(chunk.rows, cells, strict=True):
            writer.writerow([*row, *map(_spelt, added)])
        return page.getvalue().encode()

    def join(self, parts: Sequence[Path], target: Path) -> None:
        """Write the parts one after the other."""
        join_bytes(parts, target)

    def _records(self, source: Path) -> Iterator[tuple[str, list[str] | Problem]]:
        """Yield where each record starts and its cells; bytes that are not UTF-8 come as lone surrogates."""
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
        lines = (line.decode(errors="surrogateescape") for _, line in read_lines(source))
        reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
        while True:
            where = f"{source}:{reader.line_num + 1}"
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield (
                    where,
                    Problem(f'{where}: not a well-formed line ({error}); write "" for a quote in a quoted cell'),
                )
                continue
            if cells:
                yield where, cells


def _check_header(source: Path, header: Sequence[str], column: str) -> None:
    twice = [name for name, count in Counter(header).items() if count > 1]
    if not header or twice:
        came = f"column {twice[0]!r} stands there twice" if twice else "the file is empty"
        raise DataError(f"{source}:1: {came}; want a header that names each column once")
    if column not in header:
        raise DataError(f"{source}:1: no column {column!r}; there are {', '.join(header)}: name one with --text")


def _read(where: str, cells: list[str] | Problem, header: Sequence[str], place: int) -> Read:
    if isinstance(cells, Problem):
        return Read([""] * len(header), cells)
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        mended = [cell.encode(errors="surrogateescape").decode(errors="replace") for cell in cells]
        return Read(_fitted(mended, header), Problem(f"{where}: not UTF-8; save the file as UTF-8"))
    if len(cells) != len(header):
        reason = f"{where}: {len(cells)} cells came, {len(header)} were wanted as in the header"
        return Read(_fitted(cells, header), Problem(reason))
    text = cells[place]
    return Read(cells, text if text.strip() else Problem(f"{where}: {header[place]!r} is empty; want a text"))


def _fitted(cells: Sequence[str], header: Sequence[str]) -> list[str]:
    """Return as many cells as the header has: none is wanted beyond, and missing ones are empty."""
    return [*cells, *[""] * len(header)][: len(header)]


def _spelt(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, bool | dict):
        return msgspec.json.encode(cell).decode()
    return str(cell)
