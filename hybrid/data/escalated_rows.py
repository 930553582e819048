"""Texts that escalated in service and that a person labelled since: training rows of the next run."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from hybrid.data.duplicates import NearIndex
from hybrid.errors import DataError
from hybrid.files.table import read_rows
from hybrid.types import Example, Gold, Report, Row, Trusted

ADDED = "escalated.jsonl"
"""Beside the runs of a recipe: the texts that escalated, with a person's labels."""


class Added(Row, frozen=True, kw_only=True):
    """A text that came to a service, with the label that a person gave it."""

    id: str
    text: str
    label: str


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of a run, and the figures of the split stage's report."""

    rows: list[Example]
    gold: list[Gold]
    report: Report


def read_added(path: Path, labels: Sequence[str]) -> list[Added]:
    """Return the rows of the file; none where there is no file.

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


def join_added(dealt: Joined, added: Sequence[Added], *, near_duplicate: float) -> Joined:
    """Return the rows with `added` among those that train, but for near-copies of rows that calibrate or test.

    Those would let the run judge itself by what it has learnt. Where the data has gold the person's label is gold.
    """
    rows, gold = dealt.rows, dealt.gold
    judging = NearIndex([row.text for row in rows if row.part != "train"], near_duplicate)
    known = {row.id for row in rows}
    new = [one for one in added if one.id not in known and judging.nearest(one.text) is None]
    return Joined(
        rows=[*rows, *(Example(id=one.id, text=one.text, label=one.label) for one in new)],
        gold=[*gold, *(Gold(id=one.id, label=one.label) for one in new if gold)],
        report=dealt.report | _counted(dealt, new) | {"escalated_rows_refused": len(added) - len(new)},
    )


def _counted(dealt: Joined, new: Sequence[Added]) -> Report:
    """Return the figures of the split stage's report that the new rows change."""
    parts, classes = dealt.report["parts"], dealt.report["classes"]
    counts = Counter(classes["train"]) + Counter(one.label for one in new)
    return {
        "escalated_rows": len(new),
        "parts": parts | {"train": parts["train"] + len(new)},
        "classes": classes | {"train": {label: counts[label] for label in classes["train"]}},
        "gold_rows": dealt.report["gold_rows"] + (len(new) if dealt.gold else 0),
    }


def trusted_of(rows: Sequence[Example], added: Sequence[Added]) -> list[Trusted]:
    """Return those of the added rows that are in the run, as trusted rows."""
    label = {one.id: one.label for one in added}
    return [
        Trusted(id=row.id, label=label[row.id], source="review")
        for row in rows
        if row.part == "train" and row.id in label
    ]
