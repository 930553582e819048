"""A csv for any spreadsheet: one line per row, with an empty column `label` for the answer."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from hybrid.files.spreadsheet_cells import guard, unguard
from hybrid.files.table import write_bytes
from hybrid.review.answer_files import Entries
from hybrid.review.answers import Answer, AnswerFile, ReviewItem, is_drawn, key_of

COLUMNS = ("id", "where", "text", "given", "decided", "teacher", "reason", "why", "gain", "label")


def write_sheet(items: Sequence[ReviewItem], labels: Sequence[str], path: Path) -> list[str]:
    """Write the sheet and return instructions for the user."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    for item in items:
        texts = (
            item.id,
            item.where,
            item.text,
            item.given,
            item.label,
            item.teacher_label,
            item.reason,
            item.why,
        )
        writer.writerow((*map(guard, texts), item.gain, ""))
    # The byte order mark tells a spreadsheet that the file is UTF-8.
    write_bytes(path, buffer.getvalue().encode("utf-8-sig"))
    return [f"  fill in the column label ({', '.join(labels)}), and read it back with: hybrid review read RUN FILE"]


def read_sheet(file: Entries) -> AnswerFile:
    """Read the answers in a sheet; a line with an empty label is unanswered."""
    # Each line counts as another person, so that two labels of one row are a conflict and not a correction.
    answers = [
        Answer(
            id=_cell(cells, "id"),
            label=label,
            who=f"line {number}",
            text_key=key_of(_cell(cells, "text")),
            drawn=is_drawn(_cell(cells, "why")),
        )
        for number, cells in zip(file.numbers, file.entries, strict=True)
        if (label := _cell(cells, "label"))
    ]
    return AnswerFile(answers=answers, unanswered=len(file.entries) - len(answers))


def _cell(cells: dict[str, object], column: str) -> str:
    value = cells.get(column)
    return unguard("" if value is None else str(value)).strip()
