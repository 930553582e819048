"""How each source is wrong, counted on the trusted rows, and which label definitions to rewrite."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from hybrid.labels.sources import LabelSource

MOST_PAIRS = 20
FEWEST = 2
"""A confusion seen once may be chance."""


def source_report(
    sources: Sequence[LabelSource], trusted: np.ndarray, gold: np.ndarray, labels: Sequence[str]
) -> dict[str, dict[str, object]]:
    """Return by source what it said where rows `trusted` [m] have the labels `gold` [m].

    Keys of each: `rows` it spoke about, `right` (their share, null where it was silent), `confusion` (by trusted
    label, how often it said which) and `rewrite`: the pairs of labels that it mixes up most, as `label`, `said`,
    `rows` and their `share` of the label's trusted rows. Those two definitions want a sentence that tells them apart.
    """
    return {source.name: _report(source.said[trusted], gold, labels) for source in sources}


def _report(said: np.ndarray, gold: np.ndarray, labels: Sequence[str]) -> dict[str, object]:
    spoke = said >= 0
    pairs = Counter(zip(gold[spoke].tolist(), said[spoke].tolist(), strict=True))
    of_label = Counter(gold[spoke].tolist())
    mixed = [(truth, word, n) for (truth, word), n in pairs.most_common() if truth != word and n >= FEWEST]
    confusion: dict[str, dict[str, int]] = {labels[truth]: {} for truth in sorted(of_label)}
    for truth, word in sorted(pairs):
        confusion[labels[truth]][labels[word]] = pairs[truth, word]
    return {
        "rows": int(spoke.sum()),
        "right": round(float((said == gold)[spoke].mean()), 4) if spoke.any() else None,
        "confusion": confusion,
        "rewrite": [
            {"label": labels[truth], "said": labels[word], "rows": n, "share": round(n / of_label[truth], 4)}
            for truth, word, n in mixed[:MOST_PAIRS]
        ],
    }
