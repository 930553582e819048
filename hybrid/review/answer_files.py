"""Read a file of answers as entries: the objects of a JSON file, or the lines of a table as objects."""

from pathlib import Path
from typing import Any

import msgspec

from hybrid.errors import DataError
from hybrid.files.formats import format_of
from hybrid.files.sheet import read_sheet

TABLES = (".csv", ".tsv", ".xlsx", ".xlsm")


class Entries(msgspec.Struct, frozen=True, kw_only=True):
    """The entries of a file."""

    path: Path
    entries: list[dict[str, Any]]
    numbers: list[int]
    """The line of each entry in a table, its number in a JSON file."""
    columns: tuple[str, ...]
    """The fields that every entry has."""

    def where(self, position: int) -> str:
        """Return what messages call an entry."""
        is_table = self.path.suffix.lower() in TABLES
        return f"{self.path}:{self.numbers[position]}" if is_table else f"{self.path}: entry {self.numbers[position]}"


def read_entries(path: Path) -> Entries:
    """Read a csv, tsv, xlsx, parquet, JSON or JSON Lines file.

    A JSON file is a list of objects, an object of columns, or an object of objects.

    Raises:
        DataError: the file cannot be read as any of them.
    """
    if path.suffix.lower() in TABLES:
        return _of_table(path)
    entries = _of_parquet(path) if path.suffix.lower() == ".parquet" else _of_json(path)
    shared = set(entries[0]).intersection(*entries) if entries else set()
    columns = tuple(name for name in entries[0] if name in shared) if entries else ()
    return Entries(path=path, entries=entries, numbers=list(range(1, len(entries) + 1)), columns=columns)


def _of_table(path: Path) -> Entries:
    with format_of(path).open(path, name=str(path), columns=()) as table:
        columns = tuple(name for name in table.header or () if name)
    sheet = read_sheet(path, columns)
    return Entries(
        path=path,
        entries=[dict(cells) for _, cells in sheet.records],
        numbers=[number for number, _ in sheet.records],
        columns=columns,
    )


def _of_parquet(path: Path) -> list[dict[str, Any]]:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    try:
        rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    except (OSError, arrow.ArrowException) as error:
        raise DataError(f"{path}: cannot be read as parquet ({error}); export the answers again") from error
    return rows


def _of_json(path: Path) -> list[dict[str, Any]]:
    try:
        content = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
        if path.suffix.lower() == ".jsonl":
            return msgspec.json.Decoder(dict[str, Any]).decode_lines(content)
        value = msgspec.json.decode(content)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); expected a csv, or a JSON list of tasks or records"
        ) from error
    entries = _entries_of(value)
    if entries is None:
        raise DataError(f"{path}: no list of tasks or records; expected the JSON export of Label Studio or Argilla")
    return entries


def _entries_of(value: object) -> list[dict[str, Any]] | None:
    if isinstance(value, list) and all(isinstance(entry, dict) for entry in value):
        return value
    if not isinstance(value, dict):
        return None
    if value and all(isinstance(entry, dict) for entry in value.values()):
        return list(value.values())
    if value and all(isinstance(column, list) for column in value.values()):
        lengths = {len(column) for column in value.values()}
        if len(lengths) == 1:
            return [dict(zip(value, cells, strict=True)) for cells in zip(*value.values(), strict=True)]
    return None
