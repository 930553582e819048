"""How much worse one classifier is than another on the same rows, with an upper bound.

Shapes throughout: `gold`, `before` and `after` are truth values [n, n_labels], a row a text, a column a label it has;
with one label a text each row has one true value.
"""

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from hybrid.evaluation.set_metrics import label_counts_of_draws, macro_f1_of_counts, macro_f1_of_sets

Array = npt.NDArray[Any]


class Drop(msgspec.Struct, frozen=True, kw_only=True):
    """By how much a score falls, before minus after, and its upper bound."""

    value: float
    upper: float
    """The one-sided upper bound at the level that was asked for."""


def accuracy_drop(gold: Array, before: Array, after: Array, *, level: float) -> Drop:
    """Return by how much the share of rows that are wholly right falls.

    The bound joins exact binomial limits of the shares that turned wrong and that turned right (Newcombe
    1998, "Improved confidence intervals for the difference between binomial proportions based on paired data", with
    Clopper and Pearson's limits): it stays above zero where no row changed, by as much as few rows can say.
    """
    right_before, right_after = (gold == before).all(axis=1), (gold == after).all(axis=1)
    n_rows = len(gold)
    n_lost, n_won = int((right_before & ~right_after).sum()), int((~right_before & right_after).sum())
    most_lost = binomtest(n_lost, n_rows, alternative="less").proportion_ci(level, method="exact").high
    least_won = binomtest(n_won, n_rows, alternative="greater").proportion_ci(level, method="exact").low
    value = (n_lost - n_won) / n_rows
    above = np.hypot(most_lost - n_lost / n_rows, n_won / n_rows - least_won)
    return Drop(value=value, upper=value + float(above))


def macro_f1_drop(gold: Array, before: Array, after: Array, *, level: float, n: int, seed: int) -> Drop:
    """Return by how much macro-F1 falls; the bound is a percentile of `n` paired bootstrap draws.

    Efron and Tibshirani 1993, chapter 13. Where few rows changed the bootstrap is too sure of itself: read it
    beside `accuracy_drop`.
    """
    value = macro_f1_of_sets(gold, before) - macro_f1_of_sets(gold, after)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(gold), np.full(len(gold), 1 / len(gold)), size=n).astype(np.float32)
    scores = [macro_f1_of_counts(*label_counts_of_draws(drawn, gold, chosen)) for chosen in (before, after)]
    return Drop(value=value, upper=float(np.quantile(scores[0] - scores[1], level)))
