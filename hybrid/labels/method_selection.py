"""Choose the cleaning method by its score on the trusted rows; the simpler method wins a tie."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from scipy.stats import sem

DIGITS = 4


class HeldOutLabels(msgspec.Struct, frozen=True, kw_only=True):
    """A method's out-of-sample estimates for the trusted rows: probabilities [m, k], and a mask of the rows it keeps [m]."""

    probs: np.ndarray
    kept: np.ndarray


class MethodChoice(msgspec.Struct, frozen=True, kw_only=True):
    """The chosen method and, by method, the shares of trusted rows `right`, `wrong` and `dropped`, and the `brier` score."""

    method: str
    scores: dict[str, dict[str, float]]


def choose(held_out: Mapping[str, HeldOutLabels], gold: np.ndarray) -> MethodChoice:
    """Take the simplest method whose Brier score is within one standard error of the best.

    The score (0 to 2, Brier 1950) is that of the soft label with which a row would train. A dropped row has no label and
    scores as uniform probabilities do. `held_out` is ordered from the simplest method to the most complex.
    """
    losses = [_brier_by_row(labels, gold) for labels in held_out.values()]
    scores = {
        name: _shares(labels, gold) | {"brier": round(float(loss.mean()), DIGITS)}
        for (name, labels), loss in zip(held_out.items(), losses, strict=True)
    }
    return MethodChoice(method=list(held_out)[simplest_within_error([-loss for loss in losses])], scores=scores)


def simplest_within_error(scores: Sequence[np.ndarray]) -> int:
    """Find the first entry whose mean is within one standard error of the best mean (Breiman et al. 1984).

    The standard error is that of the paired difference. `scores` [m] are ordered from the simplest to the most complex,
    and higher is better.
    """
    best = max(scores, key=lambda of_rows: float(of_rows.mean()))
    gaps = [best - of_rows for of_rows in scores]
    return next(i for i, gap in enumerate(gaps) if gap.mean() <= sem(gap, ddof=min(1, len(gap) - 1)))


def _brier_by_row(labels: HeldOutLabels, gold: np.ndarray) -> np.ndarray:
    n_labels = labels.probs.shape[1]
    probs = np.where(labels.kept[:, None], labels.probs, 1 / n_labels)
    return np.asarray(((probs - np.eye(n_labels)[gold]) ** 2).sum(axis=1))


def _shares(labels: HeldOutLabels, gold: np.ndarray) -> dict[str, float]:
    right = labels.kept & (labels.probs.argmax(axis=1) == gold)
    shares = {"right": right, "wrong": labels.kept & ~right, "dropped": ~labels.kept}
    return {name: round(float(rows.mean()), DIGITS) for name, rows in shares.items()}
