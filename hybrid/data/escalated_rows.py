"""Texts that escalated in the service and were labelled by a person since: training rows of the next run."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from hybrid.data.duplicates import NearIndex
from hybrid.data.row_ids import text_key
from hybrid.errors import DataError
from hybrid.files.table import read_rows
from hybrid.types import Example, Gold, Report, Row, Trusted

ADDED = "escalated.jsonl"
"""The file with these texts and their labels, beside the runs of a recipe."""


class Added(Row, frozen=True, kw_only=True):
    """A text that was sent to the service, with the label that a person gave it."""

    id: str
    text: str
    label: str


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of a run, and the figures of the split stage's report."""

    rows: list[Example]
    gold: list[Gold]
    report: Report


def read_added(path: Path, labels: Sequence[str]) -> list[Added]:
    """Read the rows of the file; there are none if there is no file.

    Raises:
        DataError: the file cannot be read, or a label is not one of the recipe's.
    """
    if not path.is_file():
        return []
    rows = read_rows(path, Added)
    for row in rows:
        if row.label not in labels:
            raise DataError(
                f"{path}: {row.id}: label {row.label!r} is not one of the recipe's ({', '.join(labels)}); correct it there, "
                "or remove the line"
            )
    return rows


def join_added(split: Joined, added: Sequence[Added], *, near_duplicate: float) -> Joined:
    """Add rows to the training rows, except near-copies of calibration and test rows.

    With a near-copy the run would be scored on what it has learnt. If the data has gold, the person's label is gold.
    """
    rows, gold = split.rows, split.gold
    judging = NearIndex([row.text for row in rows if row.part != "train"], near_duplicate)
    known = {row.id for row in rows}
    new = [row for row in added if row.id not in known and judging.nearest(row.text) is None]
    return Joined(
        rows=[*rows, *(Example(id=row.id, text=row.text, label=row.label) for row in new)],
        gold=[*gold, *(Gold(id=row.id, label=row.label) for row in new if gold)],
        report=split.report | _counts(split, new) | {"escalated_rows_refused": len(added) - len(new)},
    )


def _counts(split: Joined, new: Sequence[Added]) -> Report:
    """Return the figures of the split stage's report that the new rows change."""
    parts, classes = split.report["parts"], split.report["classes"]
    counts = Counter(classes["train"]) + Counter(row.label for row in new)
    return {
        "escalated_rows": len(new),
        "parts": parts | {"train": parts["train"] + len(new)},
        "classes": classes | {"train": {label: counts[label] for label in classes["train"]}},
        "gold_rows": split.report["gold_rows"] + (len(new) if split.gold else 0),
    }


def trusted_of(rows: Sequence[Example], added: Sequence[Added]) -> list[Trusted]:
    """Return those of the added rows that are in the run, as trusted rows."""
    label = {row.id: row.label for row in added}
    return [
        Trusted(id=row.id, label=label[row.id], source="review", text_key=text_key(row.text))
        for row in rows
        if row.part == "train" and row.id in label
    ]
