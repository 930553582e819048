"""A csv for any spreadsheet: one row a line, the column `label` left empty for the answer."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from hybrid.errors import DataError
from hybrid.files.table import write_bytes
from hybrid.review.answers import Answer, Read
from hybrid.review.queue import ReviewItem

COLUMNS = ("id", "text", "given", "decided", "teacher", "reason", "gain", "label")


def write_sheet(looks: Sequence[ReviewItem], labels: Sequence[str], path: Path) -> list[str]:
    """Write the sheet; return what to do with it."""
    written = io.StringIO()
    writer = csv.writer(written)
    writer.writerow(COLUMNS)
    writer.writerows((k.id, k.text, k.given, k.label, k.teacher_label, k.reason, k.gain, "") for k in looks)
    # The mark tells a spreadsheet that the file is UTF-8.
    write_bytes(path, written.getvalue().encode("utf-8-sig"))
    return [f"  fill in the column label ({', '.join(labels)}), and read it back with: review read"]


def read_sheet(path: Path) -> Read:
    """Return the answers in a sheet; a line with an empty label is none.

    Raises:
        DataError: the file cannot be read, or has no id and label.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); want a csv in UTF-8") from error
    reader = csv.DictReader(io.StringIO(text, newline=""))
    for column in ("id", "label"):
        if column not in (reader.fieldnames or ()):
            raise DataError(f"{path}: no column {column!r}; want the columns that review export wrote")
    cells = [((line["id"] or "").strip(), (line["label"] or "").strip(), reader.line_num) for line in reader]
    # Each line counts as a person of its own, so that two labels of a row are a conflict and not a correction.
    answers = [Answer(id=row_id, label=label, who=f"line {number}") for row_id, label, number in cells if label]
    return Read(answers=answers, unanswered=len(cells) - len(answers))
