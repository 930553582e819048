"""The file formats that rows come in: one table, which training data, audits, votes, reviews and scoring all read.

To add a format, write a class with the methods of `records.Format` in a file here, and give it an entry in `FORMATS`.
"""

from pathlib import Path

from hybrid.errors import DataError
from hybrid.files.formats.delimited import Delimited
from hybrid.files.formats.jsonl import Jsonl
from hybrid.files.formats.parquet import Parquet
from hybrid.files.formats.records import Format
from hybrid.files.formats.xlsx import Xlsx

FORMATS: dict[str, Format] = {
    "csv": Delimited(",", (".csv",)),
    "tsv": Delimited("\t", (".tsv",)),
    "jsonl": Jsonl(),
    "parquet": Parquet(),
    "xlsx": Xlsx(),
}
_SPREADSHEETS = (".xls", ".xlsb", ".ods", ".numbers", ".gsheet")
"""Endings of the names of spreadsheets that no format here reads."""


def format_of(path: Path, name: str = "") -> Format:
    """Return the format that the end of a file's name stands for; messages call the file `name`.

    Raises:
        DataError: no format has this ending.
    """
    suffix = path.suffix.lower()
    for file_format in FORMATS.values():
        if suffix in file_format.suffixes:
            return file_format
    if suffix in _SPREADSHEETS:
        raise DataError(f"{name or path}: a spreadsheet of another kind ({suffix}); save it as .xlsx, or as CSV UTF-8")
    known = [ending for file_format in FORMATS.values() for ending in file_format.suffixes]
    raise DataError(
        f"{name or path}: a {suffix or 'nameless'} file; expected {', '.join(known[:-1])} or {known[-1]}: convert or "
        "rename it"
    )


def is_table(path: Path) -> bool:
    """Whether the end of a file's name stands for one of the formats."""
    return any(path.suffix.lower() in file_format.suffixes for file_format in FORMATS.values())
