"""How sure a share or an AUROC is on few rows, and whether one way of deciding is worse than another."""

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import binomtest, norm, t, ttest_1samp
from sklearn.metrics import roc_auc_score

Array = npt.NDArray[Any]
EDGE = 1e-9
"""How far from 0 and 1 the search for a root stays: there the variance is zero, and the equation holds trivially."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A figure and its interval."""

    value: float
    low: float
    high: float


def share_interval(hits: int, n_rows: int, *, level: float = 0.95) -> Estimate:
    """Return a share with its score interval.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    interval = binomtest(hits, n_rows).proportion_ci(confidence_level=level, method="wilson")
    return Estimate(value=hits / n_rows, low=float(interval.low), high=float(interval.high))


def auroc_interval(score: Array, right: Array, *, level: float = 0.95) -> Estimate | None:
    """Measure how well a score [n] ranks right rows above wrong ones; None where all are right or all are wrong.

    Ties count one half. The interval inverts the score equation of Newcombe 2006, "Confidence intervals for an
    effect size measure based on the Mann-Whitney statistic, part 2", method 5: it keeps its width where the
    ranking is perfect and rows are few.
    """
    right = np.asarray(right, dtype=bool)
    n_right, n_wrong = int(right.sum()), int((~right).sum())
    if not n_right or not n_wrong:
        return None
    area = float(roc_auc_score(right, score))
    z = float(norm.ppf((1 + level) / 2))

    def beyond(theta: float) -> float:
        return (theta - area) ** 2 - z * z * _variance(theta, n_right, n_wrong)

    low = 0.0 if area == 0 else float(brentq(beyond, 0.0, min(area, 1 - EDGE)))
    high = 1.0 if area == 1 else float(brentq(beyond, max(area, EDGE), 1.0))
    return Estimate(value=area, low=low, high=high)


def mean_difference(right: Array, than: Array, *, level: float = 0.95) -> Estimate:
    """Return by how much the share of right answers differs, over the same rows, with a paired t interval.

    `right` [s, n] and `than` [s, n] say which rows each of s trainings got right. The interval is over rows, each with its
    mean over the trainings: it says what other rows would give, and with few trainings little about further ones.
    """
    difference = np.asarray(right, dtype=float).mean(axis=0) - np.asarray(than, dtype=float).mean(axis=0)
    value, n_rows = float(difference.mean()), len(difference)
    half = float(t.ppf((1 + level) / 2, n_rows - 1) * difference.std(ddof=1) / np.sqrt(n_rows)) if n_rows > 1 else 1.0
    return Estimate(value=value, low=value - half, high=value + half)


def worse_p(right: Array, than: Array) -> float:
    """Return the p-value of "this way is no worse than the other": how likely so many more losses are by chance.

    The exact one-sided test of McNemar 1947 on the rows [n] where the two differ.
    """
    right, than = np.asarray(right, dtype=bool), np.asarray(than, dtype=bool)
    n_lost, n_won = int((than & ~right).sum()), int((right & ~than).sum())
    if not n_lost + n_won:
        return 1.0
    return float(binomtest(n_lost, n_lost + n_won, 0.5, alternative="greater").pvalue)


def lower_p(losses: Array, than: Array) -> float:
    """Return the p-value of "these losses [n] are no lower than the others on the same rows": a paired t test."""
    difference = np.asarray(losses, dtype=float) - np.asarray(than, dtype=float)
    if not difference.any():
        return 1.0
    return float(ttest_1samp(difference, 0.0, alternative="less").pvalue)


def _variance(theta: float, n_right: int, n_wrong: int) -> float:
    """The variance of an area `theta` by Newcombe's method 5."""
    mean_size = (n_right + n_wrong) / 2 - 1
    inner = 1 + mean_size * ((1 - theta) / (2 - theta) + theta / (1 + theta))
    return theta * (1 - theta) * inner / (n_right * n_wrong)
