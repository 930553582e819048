"""Refuse parts that later stages could not use: too few rows to calibrate or to test, or a label without any."""

import itertools
from collections import Counter
from collections.abc import Mapping

from hybrid.data.drawing import DrawnParts
from hybrid.errors import DataError
from hybrid.types import Part

LEAST_TEST = 2
"""Test rows: an interval needs two."""


def check_sizes(sizes: Mapping[Part, int], parts: DrawnParts, *, folds: int) -> None:
    """Check that there is a calibration row for each fold, and that there are test rows.

    Raises:
        DataError: there are fewer; the message has the number needed.
    """
    n_judges = sum(parts.judges.values())
    of_gold = f" of the {n_judges} rows with gold" if parts.only_gold else ""
    if sizes["calibration"] < folds:
        share = parts.calibration_share
        if "calibration" not in parts.drawn:
            advice = f"add calibration rows, {folds} or more"
        elif share is None:
            advice = f"raise split.calibration to {folds} or more"
        else:
            needed = next(n for n in itertools.count(n_judges) if round(n * share) >= folds)
            advice = f"expected {needed} or more rows" + (
                " with gold: add gold, or leave data.gold out to be judged by the given labels"
                if parts.only_gold
                else ": add rows, or raise split.calibration"
            )
        raise DataError(
            f"split: {sizes['calibration']} calibration rows{of_gold} for calibrate.folds = {folds}, which needs one a "
            f"fold; {advice}"
        )
    if sizes["test"] < LEAST_TEST:
        advice = "raise split.test" if "test" in parts.drawn or not sizes["test"] else "add test rows"
        raise DataError(f"split: {sizes['test']} test rows{of_gold}; expected {LEAST_TEST} or more: {advice}")


def check_labels_of_parts(
    counts: Mapping[Part, Mapping[str, int]], parts: DrawnParts, *, n_calibration: int, taught: Counter[str]
) -> None:
    """Check that each label of which rows were drawn has a row to train on and one to calibrate on.

    Args:
        counts: the rows of each part by label.
        parts: how they were drawn.
        n_calibration: all calibration rows.
        taught: the training rows by label, given or true.

    Raises:
        DataError: a label has none; the message has the number needed.
    """
    if "calibration" not in parts.drawn:
        return
    n_parts = len(parts.drawn)
    for label, n_rows in parts.judges.items():
        lacks = "calibration" if not counts["calibration"].get(label) else "train" if not taught[label] else ""
        if not lacks:
            continue
        if n_rows < n_parts:
            needed = f"expected {n_parts} or more, one for each of {', '.join(parts.drawn)}"
        elif n_calibration < len(parts.judges):
            raise DataError(
                f"split: {n_calibration} calibration rows for {len(parts.judges)} labels, and none for {label!r}; raise "
                f"split.calibration to {len(parts.judges)} or more"
            )
        else:
            needed = "near-duplicates stay in one part: expected more rows that differ"
        with_gold = " with gold" if parts.only_gold else ""
        raise DataError(
            f"split: label {label!r} has {n_rows} rows{with_gold} and none of them is for {lacks}; {needed}: add rows, or "
            "give them the label of another class"
        )
