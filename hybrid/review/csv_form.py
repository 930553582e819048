"""A csv for any spreadsheet: one line per row, with an empty column `label` for the answer."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from hybrid.errors import DataError
from hybrid.files.sheet import Cells
from hybrid.files.sheet import read_sheet as read_cells
from hybrid.files.table import write_bytes
from hybrid.review.answers import Answer, AnswerFile, ReviewItem, key_of

COLUMNS = ("id", "text", "given", "decided", "teacher", "reason", "gain", "label")


def write_sheet(items: Sequence[ReviewItem], labels: Sequence[str], path: Path) -> list[str]:
    """Write the sheet and return instructions for the user."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    writer.writerows((i.id, i.text, i.given, i.label, i.teacher_label, i.reason, i.gain, "") for i in items)
    # The byte order mark tells a spreadsheet that the file is UTF-8.
    write_bytes(path, buffer.getvalue().encode("utf-8-sig"))
    return [f"  fill in the column label ({', '.join(labels)}), and read it back with: review read"]


def read_sheet(path: Path) -> AnswerFile:
    """Read the answers in a sheet; a line with an empty label is unanswered.

    Raises:
        DataError: the file cannot be read, or has no id and label.
    """
    sheet = read_cells(path, ("id", "label", "text"))
    for column in ("id", "label"):
        if column not in sheet.columns:
            raise DataError(f"{path}: no column {column!r}; expected the columns that review export wrote")
    # Each line counts as another person, so that two labels of one row are a conflict and not a correction.
    answers = [
        Answer(id=_cell(row, "id"), label=label, who=f"line {number}", text_key=key_of(row.get("text")))
        for number, row in sheet.records
        if (label := _cell(row, "label"))
    ]
    return AnswerFile(answers=answers, unanswered=len(sheet.records) - len(answers))


def _cell(row: Cells, column: str) -> str:
    return (row.get(column) or "").strip()
