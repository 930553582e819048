"""How sure a share or an AUROC is on few rows, and whether one way of deciding is worse than another."""

import math
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import binomtest, norm, rankdata, ttest_1samp

Array = npt.NDArray[Any]
EDGE = 1e-9
"""How far from 0 and 1 a root is looked for: there the variance is zero, and the equation holds trivially."""


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """A figure and its interval."""

    value: float
    low: float
    high: float


def share_interval(hits: int, n_rows: int, *, level: float = 0.95) -> Estimate:
    """Return a share with its score interval.

    Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    z, share = float(norm.ppf((1 + level) / 2)), hits / n_rows
    middle = (share + z * z / (2 * n_rows)) / (1 + z * z / n_rows)
    half = z / (1 + z * z / n_rows) * math.sqrt(share * (1 - share) / n_rows + z * z / (4 * n_rows**2))
    return Estimate(value=share, low=max(0.0, middle - half), high=min(1.0, middle + half))


def auroc_interval(score: Array, right: Array, *, level: float = 0.95) -> Estimate | None:
    """Return how well a score [n] ranks right rows above wrong ones; None where all are right or all are wrong.

    Ties count one half. The interval inverts the score equation of Newcombe 2006, "Confidence intervals for an
    effect size measure based on the Mann-Whitney statistic, part 2", method 5: it keeps its width where the
    ranking is perfect and rows are few.
    """
    right = np.asarray(right, dtype=bool)
    n_right, n_wrong = int(right.sum()), int((~right).sum())
    if not n_right or not n_wrong:
        return None
    ranks = rankdata(np.asarray(score, dtype=float))
    area = float((ranks[right].sum() - n_right * (n_right + 1) / 2) / (n_right * n_wrong))
    z = float(norm.ppf((1 + level) / 2))

    def beyond(theta: float) -> float:
        return (theta - area) ** 2 - z * z * _variance(theta, n_right, n_wrong)

    low = 0.0 if area == 0 else float(brentq(beyond, 0.0, min(area, 1 - EDGE)))
    high = 1.0 if area == 1 else float(brentq(beyond, max(area, EDGE), 1.0))
    return Estimate(value=area, low=low, high=high)


def worse_p(right: Array, than: Array) -> float:
    """Return the probability that so many more rows turn wrong than right if neither way is better.

    The exact one-sided test of McNemar 1947 on the rows [n] where the two differ.
    """
    right, than = np.asarray(right, dtype=bool), np.asarray(than, dtype=bool)
    lost, won = int((than & ~right).sum()), int((right & ~than).sum())
    return float(binomtest(lost, lost + won, 0.5, alternative="greater").pvalue) if lost + won else 1.0


def lower_p(losses: Array, than: Array) -> float:
    """Return the probability that losses [n] are so much lower than others on the same rows by chance: a paired t test."""
    difference = np.asarray(losses, dtype=float) - np.asarray(than, dtype=float)
    if not difference.any():
        return 1.0
    return float(ttest_1samp(difference, 0.0, alternative="less").pvalue)


def _variance(theta: float, n_right: int, n_wrong: int) -> float:
    many = (n_right + n_wrong) / 2 - 1
    inner = 1 + many * ((1 - theta) / (2 - theta) + theta / (1 + theta))
    return theta * (1 - theta) * inner / (n_right * n_wrong)
