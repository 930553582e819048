"""Report how each source errs on the trusted rows, and which label definitions to rewrite."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest

from hybrid.labels.sources import LabelSource
from hybrid.types import Trusted

MOST_PAIRS = 20
FEWEST = 2
"""The fewest rows of a reported confusion: a single one may be chance."""
FEWEST_DRAWN = 10
"""The fewest rows of a random sample from which the share over all rows is estimated."""
DIGITS = 4


def source_report(
    sources: Sequence[LabelSource],
    trusted: Sequence[Trusted],
    positions: np.ndarray,
    gold: np.ndarray,
    labels: Sequence[str],
) -> dict[str, dict[str, object]]:
    """Compare each source's labels with the labels `gold` [m] of the rows `trusted` [m] at `positions` [m].

    The keys of each source: `rows` (rows with a label from it), `right` (the share of correct ones; null if there are
    none), `chosen` (how many of those rows were not drawn at random), `overall` (the share over all training rows), and
    then `confusion` (by trusted label, the counts of the source's labels) and `rewrite`: the pairs of labels that it
    confuses most, as `label`, `said`, `rows` and their `share` of the label's trusted rows. The definitions of such a
    pair need a sentence that tells them apart.
    """
    drawn = np.array([row.drawn for row in trusted], dtype=bool)
    return {
        source.name: _errors(source.label[positions], gold, labels) | _accuracy(source, positions, gold, drawn)
        for source in sources
    }


def _accuracy(source: LabelSource, positions: np.ndarray, gold: np.ndarray, drawn: np.ndarray) -> dict[str, object]:
    """Say what the trusted rows tell about all rows that have a label from the source.

    Rows of a review are chosen because their labels are in doubt, so the share of right labels among them is no estimate
    for the others, and no weight makes it one: the rows that were not chosen had no chance to be. `overall` therefore has
    the estimate of the rows drawn at random, `right` from `low` to `high` (95 %, Wilson 1927) on `rows` of them; null
    where there are too few. What holds for certain is `at_least` and `at_most`: every row that was not checked is wrong,
    or right.
    """
    has_label = source.has_label[positions]
    right = (source.label[positions] == gold) & has_label
    n_all, n_checked, n_right = int(source.has_label.sum()), int(has_label.sum()), int(right.sum())
    n_drawn = int((drawn & has_label).sum())
    overall: dict[str, object] = {
        "of": n_all,
        "rows": n_drawn,
        "right": None,
        "at_least": round(n_right / n_all, DIGITS) if n_all else None,
        "at_most": round(1 - (n_checked - n_right) / n_all, DIGITS) if n_all else None,
    }
    if n_drawn >= FEWEST_DRAWN:
        hits = int((right & drawn).sum())
        interval = binomtest(hits, n_drawn).proportion_ci(method="wilson")
        overall |= {
            "right": round(hits / n_drawn, DIGITS),
            "low": round(float(interval.low), DIGITS),
            "high": round(float(interval.high), DIGITS),
        }
    return {"chosen": n_checked - n_drawn, "overall": overall}


def _errors(source_labels: np.ndarray, gold: np.ndarray, labels: Sequence[str]) -> dict[str, object]:
    has_label = source_labels >= 0
    pairs = Counter(zip(gold[has_label].tolist(), source_labels[has_label].tolist(), strict=True))
    of_label = Counter(gold[has_label].tolist())
    mixed = [(truth, answer, n) for (truth, answer), n in pairs.most_common() if truth != answer and n >= FEWEST]
    confusion: dict[str, dict[str, int]] = {labels[truth]: {} for truth in sorted(of_label)}
    for truth, answer in sorted(pairs):
        confusion[labels[truth]][labels[answer]] = pairs[truth, answer]
    return {
        "rows": int(has_label.sum()),
        "right": round(float((source_labels == gold)[has_label].mean()), DIGITS) if has_label.any() else None,
        "confusion": confusion,
        "rewrite": [
            {"label": labels[truth], "said": labels[answer], "rows": n, "share": round(n / of_label[truth], DIGITS)}
            for truth, answer, n in mixed[:MOST_PAIRS]
        ],
    }
