"""What is measured of a classifier that gives a text any number of labels.

Shapes throughout: `gold` and `chosen` are truth values [n, n_labels], a row a text; `probs` [n, n_labels] are each
label's probability on its own. No function accepts zero rows.
"""

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from hybrid.evaluation.intervals import Estimate
from hybrid.evaluation.metrics import NLL_FLOOR

Floats = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

DRAWS_AT_ONCE = 250
"""Resamples in one product of matrices: enough to be fast, few enough for memory. scikit-learn would score each draw
in some milliseconds."""


class SetScores(msgspec.Struct, frozen=True, kw_only=True):
    """The three scores with their intervals."""

    subset_accuracy: Estimate
    micro_f1: Estimate
    macro_f1: Estimate


def subset_accuracy(gold: Array, chosen: Array) -> float:
    """Return the share of rows whose whole set of labels is right."""
    return float(accuracy_score(gold, chosen))


def micro_f1(gold: Array, chosen: Array) -> float:
    """Return the F1 of all (row, label) pairs together; 1 where no row has a label and none is given one."""
    return float(f1_score(np.ravel(gold), np.ravel(chosen), zero_division=1.0))


def macro_f1_of_sets(gold: Array, chosen: Array) -> float:
    """Return the unweighted mean of the F1 of the labels that occur in gold or among the chosen, 0 where none does."""
    if not (gold.any() or chosen.any()):
        return 0.0
    return float(f1_score(gold, chosen, average="macro", zero_division=np.nan))


def recall_by_label(gold: Array, chosen: Array) -> Floats:
    """Return the share of each label's gold rows that are given it [n_labels]; nan for a label without gold rows."""
    return np.asarray(recall_score(gold, chosen, average=None, zero_division=np.nan), dtype=np.float64)


def precision_by_label(gold: Array, chosen: Array) -> Floats:
    """Return the share of the rows given each label that have it in gold [n_labels]; nan for a label never given."""
    return np.asarray(precision_score(gold, chosen, average=None, zero_division=np.nan), dtype=np.float64)


def nll_of_sets_by_row(probs: Array, gold: Array) -> Floats:
    """Return minus the natural logarithm of the probability of each row's gold set [n], labels taken as independent."""
    of_gold = np.where(gold, probs, 1 - np.asarray(probs, dtype=np.float64))
    return np.asarray(-np.log(np.maximum(of_gold, NLL_FLOOR)).sum(axis=1), dtype=np.float64)


def brier_of_sets(probs: Array, gold: Array) -> float:
    """Return the mean over rows of the squared distance of the probabilities from 0 and 1, summed over the labels."""
    return float(np.mean(((np.asarray(probs, dtype=np.float64) - gold) ** 2).sum(axis=1)))


def as_one_label(confidence: Floats, correct: Array) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return probs [n, 1] and gold [n] by which the functions of `metrics` read confidence [n] and correctness [n]."""
    return confidence[:, None], np.where(correct, 0, 1)


def set_scores(gold: Array, chosen: Array, *, n: int, level: float, seed: int) -> SetScores:
    """Compute the three scores, each with the percentile interval of the same `n` resamples of the rows.

    Efron and Tibshirani 1993, chapter 13. A resample is how often it holds each row, so that the counts of all
    labels in many resamples are one product of matrices.
    """
    rng = np.random.default_rng(seed)
    n_rows, exact = len(gold), (gold == chosen).all(axis=1)
    draws: list[Floats] = []
    for start in range(0, n, DRAWS_AT_ONCE):
        drawn = rng.integers(0, n_rows, size=(min(DRAWS_AT_ONCE, n - start), n_rows))
        times = np.stack([np.bincount(rows, minlength=n_rows) for rows in drawn]).astype(np.float32)
        counts = label_counts_of_draws(times, gold, chosen)
        draws.append(np.stack([times @ exact / n_rows, _micro_f1(*counts), macro_f1_of_counts(*counts)]))
    low, high = np.quantile(np.concatenate(draws, axis=1), [(1 - level) / 2, (1 + level) / 2], axis=1).tolist()
    values = (subset_accuracy(gold, chosen), micro_f1(gold, chosen), macro_f1_of_sets(gold, chosen))
    accuracy, micro, macro = (Estimate(value=value, low=low[i], high=high[i]) for i, value in enumerate(values))
    return SetScores(subset_accuracy=accuracy, micro_f1=micro, macro_f1=macro)


def _micro_f1(in_both: Array, in_gold: Array, in_chosen: Array) -> Array:
    """Return the micro-F1 of counts with the labels on the last axis."""
    occurrences = in_gold.sum(axis=-1) + in_chosen.sum(axis=-1)
    return np.where(occurrences > 0, 2 * in_both.sum(axis=-1) / np.maximum(occurrences, 1), 1.0)


def macro_f1_error(gold: Array, chosen: Array, *, n: int = 500, seed: int = 0) -> float:
    """Return the standard error of macro-F1, the standard deviation over `n` bootstrap draws of the rows.

    Much wider than that of a share of so many rows where a label is rare.
    """
    drawn = np.random.default_rng(seed).multinomial(len(gold), np.full(len(gold), 1 / len(gold)), size=n)
    return float(macro_f1_of_counts(*label_counts_of_draws(drawn.astype(np.float32), gold, chosen)).std())


def label_counts_of_draws(times: Array, gold: Array, chosen: Array) -> tuple[Array, Array, Array]:
    """Return for each draw and label how many rows have it in both, in gold, and chosen, each [draws, n_labels].

    `times` [draws, n] holds how often each draw has each row.
    """
    in_both, in_gold, in_chosen = (times @ table.astype(np.float32) for table in (gold & chosen, gold, chosen))
    return in_both, in_gold, in_chosen


def macro_f1_of_counts(in_both: Array, in_gold: Array, in_chosen: Array) -> Array:
    """Return the macro-F1 of counts with the labels on the last axis."""
    occurrences = in_gold + in_chosen
    n_labels = (occurrences > 0).sum(axis=-1)
    return np.asarray((2 * in_both / np.maximum(occurrences, 1)).sum(axis=-1) / np.maximum(n_labels, 1))
