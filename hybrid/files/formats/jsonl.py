"""jsonl: a JSON object a line; blank lines are skipped, and every value keeps the spelling that it has in the file."""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import msgspec

from hybrid.files.formats.lines import BOM, join_bytes, not_utf8, read_lines
from hybrid.files.formats.records import (
    BATCH_ROWS,
    SHOWN,
    AddedColumns,
    Batch,
    Cell,
    NotText,
    Record,
    Start,
    Table,
    Value,
    in_batches,
)

Fields = dict[str, msgspec.Raw]
_KINDS = {b"t": "boolean", b"f": "boolean", b"[": "list", b"{": "object"}
"""What a value is by its first byte; strings and null are told apart before."""


class Jsonl:
    """A JSON object a line. Types are not guessed: "01" stays apart from 1, and a date stays a string."""

    suffixes = (".jsonl", ".ndjson")
    can_write = True

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
        """Open a file; it has no header, and each record may have columns of its own."""
        with closing(read_lines(path, name)) as lines:
            records = partial(_records, name=name, columns=tuple(dict.fromkeys(columns)), with_originals=with_originals)

            def read_from(start: Start) -> Iterator[Batch]:
                with closing(read_lines(path, name, start)) as later:
                    yield from in_batches(records(later), batch_rows)

            yield Table(name=name, header=None, batches=in_batches(records(lines), batch_rows), read_from=read_from)

    def render(
        self,
        table: Table,  # noqa: ARG002 (csv has a header to write)
        batch: Batch,
        cells: Sequence[Sequence[Cell]],
        added: AddedColumns,
        *,
        first: bool,  # noqa: ARG002 (csv has a header to write)
    ) -> bytes:
        """Return a line a row, the added fields last."""
        rows = zip(batch.originals, cells, strict=True)
        encode = msgspec.json.Encoder().encode
        lines = [encode(fields | dict(zip(added.kinds, row_cells, strict=True))) for fields, row_cells in rows]
        return b"".join(line + b"\n" for line in lines)

    def join(self, parts: Sequence[Path], target: Path) -> None:
        """Write the parts one after the other."""
        join_bytes(parts, target)


def _records(
    lines: Iterator[tuple[int, int, bytes]], *, name: str, columns: tuple[str, ...], with_originals: bool
) -> Iterator[tuple[Record, Fields | None]]:
    decode = msgspec.json.Decoder(Fields).decode
    for number, start, marked in lines:
        # Files that were put together have the mark of each at its start.
        line = marked.removeprefix(BOM)
        if not line.strip():
            continue
        problem = ""
        fields: Fields = {}
        if not line.isascii():
            try:
                line.decode()
            except UnicodeDecodeError as error:
                problem = not_utf8(name, number, start, error)
                line = line.decode(errors="replace").encode()
        try:
            fields = decode(line)
            values = {column: _value(fields[column]) for column in columns if column in fields}
        except (msgspec.DecodeError, RecursionError) as error:
            fields, values = _first_fields(line), {}
            problem = problem or (
                f"{name}:{number}: not a JSON object ({error}); expected one object a line, as in "
                '{"text": "...", "label": "..."}'
            )
        yield Record(number, fields.keys(), values, problem, start), fields if with_originals else None


_NAME = re.compile(rb'\s*("(?:[^"\\]|\\.)*")\s*:\s*')
_SIMPLE_VALUE = re.compile(rb'("(?:[^"\\]|\\.)*"|[^\s\[\]{},"]+)\s*[,}]')


def _first_fields(line: bytes) -> Fields:
    """Return the strings, numbers and truth values at the start of a malformed object: its id, as a rule."""
    fields: Fields = {}
    at = line.find(b"{") + 1
    while (name := _NAME.match(line, at)) and (value := _SIMPLE_VALUE.match(line, name.end())):
        try:
            msgspec.json.decode(value[1])
            fields[msgspec.json.decode(name[1], type=str)] = msgspec.Raw(value[1])
        except msgspec.DecodeError:
            break
        at = value.end()
    return fields


def _value(raw: msgspec.Raw) -> Value:
    spelling = bytes(raw)
    if spelling[:1] == b'"':
        return msgspec.json.decode(spelling, type=str)
    if spelling[:1] == b"n":
        return None
    kind = _KINDS.get(spelling[:1], "number")
    return NotText(
        spelling.decode() if kind in ("number", "boolean") else spelling[:SHOWN].decode(errors="ignore"), kind
    )
