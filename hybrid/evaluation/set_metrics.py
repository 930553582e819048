"""What is measured of a classifier that gives a text any number of labels.

Shapes throughout: `gold` and `chosen` are truth values [n, n_labels], a row a text; `probs` [n, n_labels] are each
label's probability on its own. No function accepts zero rows.
"""

from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from hybrid.evaluation.metrics import NLL_FLOOR, Interval, ece

Floats = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

DRAWS_AT_ONCE = 250
"""Resamples in one product of matrices: enough to be fast, few enough for memory."""


class SetScores(msgspec.Struct, frozen=True, kw_only=True):
    """The three scores with their intervals."""

    subset_accuracy: Interval
    micro_f1: Interval
    macro_f1: Interval


def subset_accuracy(gold: Array, chosen: Array) -> float:
    """Return the share of rows whose whole set of labels is right."""
    return float(np.mean((gold == chosen).all(axis=1)))


def micro_f1(gold: Array, chosen: Array) -> float:
    """Return the F1 of all (row, label) pairs together; 1 where there is no label and none is said."""
    return float(_micro_f1(*_counts(gold, chosen)))


def macro_f1_of_sets(gold: Array, chosen: Array) -> float:
    """Return the unweighted mean of the F1 of the labels that occur in gold or among the chosen, 0 where none does."""
    return float(macro_f1_of_counts(*_counts(gold, chosen)))


def recall_by_label(gold: Array, chosen: Array) -> Floats:
    """Return the share of each label's gold rows that have it [n_labels]; nan for a label without gold rows."""
    n_gold = gold.sum(axis=0)
    return np.where(n_gold > 0, (gold & chosen).sum(axis=0) / np.maximum(n_gold, 1), np.nan)


def precision_by_label(gold: Array, chosen: Array) -> Floats:
    """Return the share of the rows given each label that have it [n_labels]; nan for a label never given."""
    return recall_by_label(chosen, gold)


def nll_of_sets_by_row(probs: Array, gold: Array) -> Floats:
    """Return minus the natural logarithm of the probability of each row's gold set [n], labels taken as independent."""
    of_gold = np.where(gold, probs, 1 - np.asarray(probs, dtype=np.float64))
    return np.asarray(-np.log(np.maximum(of_gold, NLL_FLOOR)).sum(axis=1), dtype=np.float64)


def brier_of_sets(probs: Array, gold: Array) -> float:
    """Return the mean over rows of the squared distance of the probabilities from 0 and 1, summed over the labels."""
    return float(np.mean(((np.asarray(probs, dtype=np.float64) - gold) ** 2).sum(axis=1)))


def ece_of_confidence(confidence: Floats, correct: Array, bins: int = 15) -> float:
    """Return the expected calibration error of the probability [n] that a row is right, as `metrics.ece`."""
    return ece(*as_one_label(confidence, correct), bins)


def as_one_label(confidence: Floats, correct: Array) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return probs [n, 1] and gold [n] by which the functions of `metrics` see that confidence and correctness."""
    return confidence[:, None], np.where(correct, 0, 1)


def set_scores(gold: Array, chosen: Array, *, n: int, level: float, seed: int) -> SetScores:
    """Return the three scores, each with the percentile interval of the same `n` resamples of the rows.

    Efron and Tibshirani 1993, chapter 13. A resample is how often it holds each row, so that the counts of all
    labels in many resamples are one product of matrices.
    """
    rng = np.random.default_rng(seed)
    n_rows, exact = len(gold), (gold == chosen).all(axis=1)
    found: list[Floats] = []
    for start in range(0, n, DRAWS_AT_ONCE):
        drawn = rng.integers(0, n_rows, size=(min(DRAWS_AT_ONCE, n - start), n_rows))
        times = np.stack([np.bincount(rows, minlength=n_rows) for rows in drawn]).astype(np.float32)
        counts = label_counts_of_draws(times, gold, chosen)
        found.append(np.stack([times @ exact / n_rows, _micro_f1(*counts), macro_f1_of_counts(*counts)]))
    low, high = np.quantile(np.concatenate(found, axis=1), [(1 - level) / 2, (1 + level) / 2], axis=1).tolist()
    values = (subset_accuracy(gold, chosen), micro_f1(gold, chosen), macro_f1_of_sets(gold, chosen))
    accuracy, micro, macro = (Interval(value=value, low=low[i], high=high[i]) for i, value in enumerate(values))
    return SetScores(subset_accuracy=accuracy, micro_f1=micro, macro_f1=macro)


def _counts(gold: Array, chosen: Array) -> tuple[Array, Array, Array]:
    """Return for each label how many rows have it in both, in gold, and chosen."""
    return (gold & chosen).sum(axis=0), gold.sum(axis=0), chosen.sum(axis=0)


def _micro_f1(both: Array, in_gold: Array, said: Array) -> Array:
    """Labels on the last axis."""
    n_said = in_gold.sum(axis=-1) + said.sum(axis=-1)
    return np.where(n_said > 0, 2 * both.sum(axis=-1) / np.maximum(n_said, 1), 1.0)


def macro_f1_error(gold: Array, chosen: Array, *, n: int = 500, seed: int = 0) -> float:
    """Return the standard error of macro-F1, the standard deviation over `n` bootstrap draws of the rows.

    Much wider than that of a share of so many rows where a label is rare.
    """
    drawn = np.random.default_rng(seed).multinomial(len(gold), np.full(len(gold), 1 / len(gold)), size=n)
    return float(macro_f1_of_counts(*label_counts_of_draws(drawn.astype(np.float32), gold, chosen)).std())


def label_counts_of_draws(times: Array, gold: Array, chosen: Array) -> tuple[Array, Array, Array]:
    """Return for each draw and label how many rows have it in both, in gold, and chosen, each [draws, n_labels].

    `times` [draws, n] says how often a draw holds each row.
    """
    both, in_gold, said = (times @ table.astype(np.float32) for table in (gold & chosen, gold, chosen))
    return both, in_gold, said


def macro_f1_of_counts(both: Array, in_gold: Array, said: Array) -> Array:
    """Return the macro-F1 of counts with the labels on the last axis."""
    n_said = in_gold + said
    seen = (n_said > 0).sum(axis=-1)
    return np.asarray((2 * both / np.maximum(n_said, 1)).sum(axis=-1) / np.maximum(seen, 1))
