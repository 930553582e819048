"""jsonl: an object a line; what the file says of the other fields is written again as it stands."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from hybrid.errors import DataError
from hybrid.files.table import whole_file
from hybrid.scoring.lines import read_lines
from hybrid.scoring.rows import Cell, Chunk, Columns, Problem, Read, gather

Fields = dict[str, msgspec.Raw]


class Jsonl:
    """A JSON object a line."""

    def chunks(self, source: Path, column: str, n_rows: int) -> Iterator[Chunk]:
        """Yield the rows; blank lines are passed over."""
        yield from gather(_rows(source, column), n_rows)

    def render(self, chunk: Chunk, cells: Sequence[Sequence[Cell]], columns: Columns) -> bytes:
        """Return a line a row, the added fields last.

        Raises:
            DataError: a row has one of the added fields already.
        """
        lines = []
        for fields, added in zip(chunk.rows, cells, strict=True):
            taken = columns.kinds.keys() & fields.keys()
            if taken:
                raise DataError(
                    f"a row has a field {min(taken)!r} already; choose another prefix for the added ones with --prefix"
                )
            lines.append(msgspec.json.encode(fields | dict(zip(columns.kinds, added, strict=True))) + b"\n")
        return b"".join(lines)

    def join(self, parts: Sequence[Path], target: Path) -> None:
        """Write the parts one after the other."""
        join_bytes(parts, target)


def join_bytes(parts: Sequence[Path], target: Path) -> None:
    """Write the parts one after the other, whole or not at all."""
    with whole_file(target) as file:
        for part in parts:
            with part.open("rb") as content:
                shutil.copyfileobj(content, file)


def _rows(source: Path, column: str) -> Iterator[Read]:
    decoder = msgspec.json.Decoder(Fields)
    for number, line in read_lines(source):
        if line.strip():
            yield _row(line, f"{source}:{number}", column, decoder)


def _row(line: bytes, where: str, column: str, decoder: "msgspec.json.Decoder[Fields]") -> Read:
    broken = ""
    try:
        line.decode()
    except UnicodeDecodeError as error:
        broken = f"{where}: not UTF-8 at byte {error.start} of the line; save the file as UTF-8"
        line = line.decode(errors="replace").encode()
    try:
        fields = decoder.decode(line)
    except msgspec.DecodeError as error:
        return Read({}, Problem(broken or f"{where}: not a JSON object ({error}); want one a line"))
    return Read(fields, Problem(broken) if broken else _text(fields, where, column))


def _text(fields: Fields, where: str, column: str) -> str | Problem:
    if column not in fields:
        return Problem(f"{where}: no field {column!r}; there are {', '.join(map(repr, fields)) or 'none'}")
    try:
        text = msgspec.json.decode(fields[column], type=str)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return Problem(f"{where}: {column!r} is {bytes(fields[column]).decode():.40} ({error}); want a string")
    return text if text.strip() else Problem(f"{where}: {column!r} is empty; want a text")
