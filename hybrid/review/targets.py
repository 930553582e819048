"""The annotation tools: `TARGETS` has a writer and a reader for each.

To add a tool, write a module with both functions and add an entry here.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from hybrid.errors import DataError
from hybrid.review.answers import AnswerFile, ReviewItem
from hybrid.review.argilla import read_records, write_records
from hybrid.review.csv_form import read_sheet, write_sheet
from hybrid.review.label_studio import read_tasks, write_tasks


class ReviewTarget(msgspec.Struct, frozen=True, kw_only=True):
    """An annotation tool: an entry of `TARGETS`."""

    write: Callable[[Sequence[ReviewItem], Sequence[str], Path], list[str]]
    """Writes items and the label set to a file, and returns instructions to print."""
    read: Callable[[Sequence[object], Path], AnswerFile]
    """Reads answers from the entries of a JSON file; a sheet is read from its path instead, and the entries are empty."""
    entry_field: str = ""
    """A field that every entry of this tool's JSON export has, and no other tool's entries have; empty for a sheet."""


TARGETS: dict[str, ReviewTarget] = {
    "label-studio": ReviewTarget(write=write_tasks, read=read_tasks, entry_field="data"),
    "argilla": ReviewTarget(write=write_records, read=read_records, entry_field="fields"),
    "csv": ReviewTarget(write=write_sheet, read=lambda _, path: read_sheet(path)),
}
"""The tools by their names on the command line."""


def read_answers(path: Path) -> AnswerFile:
    """Read the answers in a file that one of the tools wrote; the tool is recognised by the content.

    Raises:
        DataError: no tool matches.
    """
    if path.suffix == ".csv":
        return TARGETS["csv"].read([], path)
    try:
        entries = msgspec.json.decode(path.read_bytes(), type=list[dict[str, object]])
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(
            f"{path}: cannot be read ({error}); expected a csv, or a JSON list of tasks or records"
        ) from error
    for target in TARGETS.values():
        if target.entry_field and all(target.entry_field in entry for entry in entries):
            return target.read(entries, path)
    raise DataError(f"{path}: neither Label Studio's JSON export nor Argilla's records; export as JSON, not JSON-MIN")
