"""A whole file as columns and records of text, for data that is held in memory and must be right in every row."""

import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import msgspec

from hybrid.errors import DataError
from hybrid.files.formats import format_of
from hybrid.files.formats.records import Format, location_of, text_of

_log = logging.getLogger(__name__)
Cells = Mapping[str, str | None]


class Sheet(msgspec.Struct, frozen=True, kw_only=True):
    """A file as columns and records."""

    name: str
    """What messages call it."""
    stem: str
    """The name of the file without folder and ending."""
    columns: Sequence[str]
    """Those of the header, or all that occur in a record."""
    records: list[tuple[int, Cells]]
    """The number of each record, from 1, and its cells by column."""
    has_lines: bool = True
    """Whether the numbers count lines; they count rows otherwise."""
    has_header: bool = True
    """Whether every record has the same columns."""
    value_kinds: Mapping[str, Collection[str]] = {}
    """By column, what its values are besides text: "number", "boolean"."""
    note: str = ""
    """What its reader found that the file's name does not tell; a sentence about the file."""

    def where(self, number: int) -> str:
        """Return what messages call record `number`."""
        return location_of(self.name, number, has_lines=self.has_lines)


def read_sheet(path: Path, columns: Collection[str], *, name: str = "", file_format: Format | None = None) -> Sheet:
    """Read a file of any of the formats; what its name does not tell, such as another delimiter, is said in the log.

    Args:
        path: the file.
        columns: the columns to read; it is no error if one is missing.
        name: what messages call the file; its path, if empty.
        file_format: the format, if it does not follow from the end of the file's name.

    Raises:
        DataError: the file, or one of its records, cannot be read.
    """
    name = name or str(path)
    file_format = file_format or format_of(path, name)
    names: dict[str, None] = {}
    records: list[tuple[int, Cells]] = []
    value_kinds: dict[str, set[str]] = {}
    with file_format.open(path, name=name, columns=[column for column in columns if column]) as table:
        if table.note:
            _log.warning("%s: %s", name, table.note)
        for record in (record for batch in table.batches for record in batch.records):
            if record.problem:
                raise DataError(record.problem)
            if table.header is None and not names.keys() >= set(record.names):
                names.update(dict.fromkeys(record.names))
            cells: dict[str, str | None] = {}
            for column, value in record.values.items():
                if value is None or isinstance(value, str):
                    cells[column] = value
                else:
                    cells[column] = text_of(value, table.where(record.number), column)
                    value_kinds.setdefault(column, set()).add(value.kind)
            records.append((record.number, cells))
        return Sheet(
            name=name,
            stem=path.stem,
            columns=tuple(names) if table.header is None else table.header,
            records=records,
            has_lines=table.has_lines,
            has_header=table.header is not None,
            value_kinds=value_kinds,
            note=table.note,
        )
