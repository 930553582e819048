"""Report how each source errs on the trusted rows, and which label definitions to rewrite."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from hybrid.labels.sources import LabelSource

MOST_PAIRS = 20
FEWEST = 2
"""The fewest rows of a reported confusion: a single one may be chance."""


def source_report(
    sources: Sequence[LabelSource], trusted: np.ndarray, gold: np.ndarray, labels: Sequence[str]
) -> dict[str, dict[str, object]]:
    """Compare each source's labels with the labels `gold` [m] of the rows `trusted` [m].

    The keys of each source: `rows` (rows with a label from it), `right` (the share of correct ones; null if there are
    none), `confusion` (by trusted label, the counts of the source's labels) and `rewrite`: the pairs of labels that it
    confuses most, as `label`, `said`, `rows` and their `share` of the label's trusted rows. The definitions of such a
    pair need a sentence that tells them apart.
    """
    return {source.name: _report(source.label[trusted], gold, labels) for source in sources}


def _report(source_labels: np.ndarray, gold: np.ndarray, labels: Sequence[str]) -> dict[str, object]:
    has_label = source_labels >= 0
    pairs = Counter(zip(gold[has_label].tolist(), source_labels[has_label].tolist(), strict=True))
    of_label = Counter(gold[has_label].tolist())
    mixed = [(truth, answer, n) for (truth, answer), n in pairs.most_common() if truth != answer and n >= FEWEST]
    confusion: dict[str, dict[str, int]] = {labels[truth]: {} for truth in sorted(of_label)}
    for truth, answer in sorted(pairs):
        confusion[labels[truth]][labels[answer]] = pairs[truth, answer]
    return {
        "rows": int(has_label.sum()),
        "right": round(float((source_labels == gold)[has_label].mean()), 4) if has_label.any() else None,
        "confusion": confusion,
        "rewrite": [
            {"label": labels[truth], "said": labels[answer], "rows": n, "share": round(n / of_label[truth], 4)}
            for truth, answer, n in mixed[:MOST_PAIRS]
        ],
    }
