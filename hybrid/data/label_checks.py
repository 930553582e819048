"""Refuse labels that cannot be right: outside the recipe's, too few of them, or none of them in training rows."""

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence

from hybrid.data.label_spellings import as_number, spelled
from hybrid.data.source_rows import Dataset, SourceRow, labels_in, labels_of
from hybrid.errors import DataError

_SHOWN = 5
"""Labels that a message shows."""


def check_labels(dataset: Dataset, labels: Sequence[str]) -> None:
    """Check that every given, gold and annotator's label is one of `labels`.

    Raises:
        DataError: one is not; the message suggests the nearest.
    """
    known = set(labels)
    for row in dataset.rows:
        cells = (cell for cell in (row.label, row.gold, *row.annotations.values()) if cell is not None)
        for label in (label for cell in cells for label in labels_in(cell, dataset.task)):
            if label not in known:
                near = _nearest(label, labels)
                hint = f"write {near!r} there" if near is not None else "correct the row"
                raise DataError(
                    f"{row.where or row.id}: label {label!r} is not one of the recipe's ({', '.join(labels)}); "
                    f"{hint}, or add it to `labels`"
                )


def check_classes(dataset: Dataset, ref: str) -> None:
    """Check that there are two classes or more, and ten times as many rows.

    Raises:
        DataError: there are fewer; messages call the data `ref`.
    """
    labels = labels_of(dataset)
    if not labels:
        raise DataError(f"{ref}: no row has a label; expected two labels or more: check data.label and data.separator")
    if len(labels) < 2:
        raise DataError(f"{ref}: every row is labelled {labels[0]!r}; expected two classes or more: check data.label")
    if len(dataset.rows) < 10 * len(labels):
        raise DataError(
            f"{ref}: {len(dataset.rows)} rows for {len(labels)} classes; expected ten times as many rows as classes, "
            f"{10 * len(labels)} or more: add rows, or check data.label"
        )


def check_trained(dataset: Dataset) -> None:
    """Check that each label that judges stands in rows that can train: no encoder learns a class that it never sees.

    Raises:
        DataError: one does not; the message has its number of rows and the nearest label of the training rows.
    """
    judged: Counter[str] = Counter()
    trained: Counter[str] = Counter()
    for row in dataset.rows:
        judging = row.gold if row.gold is not None else row.label if row.part in ("calibration", "test") else None
        judged.update(labels_in(judging, dataset.task) if judging is not None else ())
        trained.update(_training_labels(row, dataset))
    missing = {label: n for label, n in judged.most_common() if label not in trained}
    if not missing:
        return
    shown = ", ".join(
        f"{spelled(label)} ({n} rows{_nearest_trained(label, trained)})" for label, n in list(missing.items())[:_SHOWN]
    )
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    raise DataError(
        f"labels of gold, calibration or test rows that no training row is given: {shown}{more}; spell them as in the "
        "training rows, or add training rows"
    )


def _training_labels(row: SourceRow, dataset: Dataset) -> list[str]:
    if row.part not in (None, "train"):
        return []
    cells = dict.fromkeys([*([] if row.label is None else [row.label]), *row.annotations.values()])
    return [label for cell in cells for label in labels_in(cell, dataset.task)]


def _nearest_trained(label: str, trained: Mapping[str, int]) -> str:
    near = _nearest(label, list(trained))
    return "" if near is None else f"; the nearest is {spelled(near)}, in {trained[near]}"


def _nearest(label: str, labels: Sequence[str]) -> str | None:
    """Return the label that was probably meant: the same number, or a similar word; None if there is none."""
    number = as_number(label)
    equal = [name for name in labels if number is not None and as_number(name) == number]
    return next(iter(equal or difflib.get_close_matches(label, labels, n=1)), None)
