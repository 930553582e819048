"""What is measured of a classifier: accuracy, calibration, and what it gains by answering only where it is sure.

Shapes throughout: `gold` and `predicted` are integer label indices [n]; `probs` are probabilities
[n, n_labels] whose rows sum to 1; `confidence` [n] is the probability of the predicted label;
`correct` [n] is 1 or True where the prediction is the gold label. No function accepts zero rows.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

NLL_FLOOR = 1e-12
"""The lowest probability that `nll` takes a logarithm of: one impossible row must not make the mean infinite."""


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A statistic on all rows, and the interval that resampling the rows gives."""

    value: float
    low: float
    high: float


class RiskCoverage(msgspec.Struct, frozen=True, kw_only=True):
    """Accuracy and risk (1 - accuracy) of the most confident share of the rows, for every share [n]."""

    coverage: Floats
    accuracy: Floats
    risk: Floats
    aurc: float
    """The mean risk over all coverages, lower is better."""


class NullEce(msgspec.Struct, frozen=True, kw_only=True):
    """The ECE that a perfectly calibrated model shows on this many rows."""

    mean: float
    p95: float


class ReliabilityBin(msgspec.Struct, frozen=True, kw_only=True):
    """One point of a reliability diagram."""

    n_rows: int
    confidence: float
    accuracy: float


def accuracy(gold: Array, predicted: Array) -> float:
    """Return the share of rows whose prediction is the gold label."""
    return float(np.mean(np.asarray(gold) == np.asarray(predicted)))


def confusion_matrix(gold: Array, predicted: Array, n_labels: int) -> npt.NDArray[np.int64]:
    """Return counts [n_labels, n_labels]: gold label by row, predicted label by column."""
    cells = np.asarray(gold, dtype=np.int64) * n_labels + np.asarray(predicted, dtype=np.int64)
    return np.bincount(cells, minlength=n_labels * n_labels).reshape(n_labels, n_labels).astype(np.int64)


def macro_f1(gold: Array, predicted: Array, n_labels: int) -> float:
    """Return the unweighted mean of the F1 of the labels that occur in gold or among the predictions.

    A label that occurs in neither has no F1 and is left out, as scikit-learn's `f1_score` leaves it out.
    """
    right, in_gold, said = _counts(gold, predicted, n_labels)
    occurrences = in_gold + said
    seen = occurrences > 0
    return float(np.mean(2 * right[seen] / occurrences[seen]))


def recall_by_class(gold: Array, predicted: Array, n_labels: int) -> Floats:
    """Return the recall of each label [n_labels]; nan for a label without gold rows."""
    right, in_gold, _ = _counts(gold, predicted, n_labels)
    return np.where(in_gold > 0, right / np.maximum(in_gold, 1), np.nan)


def reliability_bins(probs: Array, gold: Array, bins: int = 15) -> list[ReliabilityBin]:
    """Return equal-mass bins of the top-label confidence, least confident first.

    Equal mass rather than equal width, so that no bin is a handful of rows (Nguyen and O'Connor 2015,
    "Posterior calibration and exploratory analysis for natural language processing models").
    """
    confidence, correct = _top(probs, gold)
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, min(bins, len(order)))
    return [
        ReliabilityBin(
            n_rows=len(part), confidence=float(confidence[part].mean()), accuracy=float(correct[part].mean())
        )
        for part in parts
    ]


def ece(probs: Array, gold: Array, bins: int = 15) -> float:
    """Return the expected calibration error: the mean over rows of |accuracy - confidence| of the row's bin.

    Guo et al. 2017, "On calibration of modern neural networks", eq. 5, with equal-mass bins.
    """
    points = reliability_bins(probs, gold, bins)
    return float(sum(point.n_rows * abs(point.accuracy - point.confidence) for point in points) / len(gold))


def ece_null(probs: Array, draws: int = 1000, seed: int = 0, bins: int = 15) -> NullEce:
    """Return mean and 95th percentile of `ece` where the labels are drawn from `probs` themselves.

    An ECE below the percentile cannot be told from perfect calibration on so few rows. Vaicenavicius et
    al. 2019, "Evaluating model calibration in classification", section 4 (consistency resampling).
    """
    confidence = np.sort(np.asarray(probs, dtype=np.float64).max(axis=1))
    n_rows = len(confidence)
    starts = [int(part[0]) for part in np.array_split(np.arange(n_rows), min(bins, n_rows))]
    # A label drawn from a row's probabilities is its top label with the probability of the confidence.
    correct = np.random.default_rng(seed).random((draws, n_rows)) < confidence
    gaps = np.abs(np.add.reduceat(correct - confidence, starts, axis=1))
    values = gaps.sum(axis=1) / n_rows
    return NullEce(mean=float(values.mean()), p95=float(np.quantile(values, 0.95)))


def brier(probs: Array, gold: Array) -> float:
    """Return the mean squared distance of the probabilities from the one-hot gold label, 0 to 2 (Brier 1950)."""
    probs = np.asarray(probs, dtype=np.float64)
    one_hot = np.eye(probs.shape[1])[np.asarray(gold)]
    return float(np.mean(np.sum((probs - one_hot) ** 2, axis=1)))


def nll_by_row(probs: Array, gold: Array) -> Floats:
    """Return minus the natural logarithm of each row's probability of gold [n], clipped at `NLL_FLOOR`."""
    of_gold = np.asarray(probs, dtype=np.float64)[np.arange(len(gold)), np.asarray(gold)]
    return np.asarray(-np.log(np.maximum(of_gold, NLL_FLOOR)), dtype=np.float64)


def nll(probs: Array, gold: Array) -> float:
    """Return the mean negative log-likelihood of gold in nats, with probabilities clipped at `NLL_FLOOR`."""
    return float(nll_by_row(probs, gold).mean())


def risk_coverage(confidence: Array, correct: Array) -> RiskCoverage:
    """Return the risk-coverage curve and the area under it.

    Geifman and El-Yaniv 2017, "Selective classification for deep neural networks". Rows of equal
    confidence share their mean correctness, so the curve does not depend on the order of the rows.
    """
    confidence = np.asarray(confidence, dtype=np.float64)
    _, group, sizes = np.unique(-confidence, return_inverse=True, return_counts=True)
    shared = np.bincount(group, weights=np.asarray(correct, dtype=np.float64)) / sizes
    ranks = np.arange(1, len(confidence) + 1)
    kept_accuracy = np.cumsum(np.repeat(shared, sizes)) / ranks
    return RiskCoverage(
        coverage=ranks / len(confidence),
        accuracy=kept_accuracy,
        risk=1 - kept_accuracy,
        aurc=float(np.mean(1 - kept_accuracy)),
    )


def bootstrap_interval(
    statistic: Callable[..., float], *arrays: Array, n: int = 2000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Return `statistic(*arrays)` with the percentile interval of `n` resamples of the rows.

    The rows of all arrays (same length, first axis) are drawn together, with replacement. Efron and
    Tibshirani 1993, "An introduction to the bootstrap", chapter 13.
    """
    columns = [np.asarray(array) for array in arrays]
    draw = np.random.default_rng(seed).integers
    n_rows = len(columns[0])
    values = np.empty(n)
    for index in range(n):
        rows = draw(0, n_rows, size=n_rows)
        values[index] = statistic(*(column[rows] for column in columns))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value=float(statistic(*columns)), low=float(low), high=float(high))


def _counts(gold: Array, predicted: Array, n_labels: int) -> tuple[Array, Array, Array]:
    """Return for each label the rows that are right, those in gold, and those predicted.

    Not by the confusion matrix: with a thousand labels it has a million cells, and a bootstrap counts 2,000 times.
    """
    gold, predicted = np.asarray(gold), np.asarray(predicted)
    right, in_gold, said = (
        np.bincount(rows, minlength=n_labels) for rows in (gold[gold == predicted], gold, predicted)
    )
    return right, in_gold, said


def _top(probs: Array, gold: Array) -> tuple[Floats, npt.NDArray[np.bool_]]:
    probs = np.asarray(probs, dtype=np.float64)
    return probs.max(axis=1), probs.argmax(axis=1) == np.asarray(gold)
