"""What is measured of a classifier: accuracy, calibration, and what it gains by answering only where it is sure.

Scores are scikit-learn's, with every label of the recipe in its place; what scikit-learn lacks is written here.

Shapes throughout: `gold` and `predicted` are integer label indices [n]; `probs` are probabilities
[n, n_labels] whose rows sum to 1; `confidence` [n] is the probability of the predicted label;
`correct` [n] is 1 or True where the prediction is the gold label. No function accepts zero rows.
"""

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.stats import bootstrap
from sklearn import metrics as sklearn_metrics

from hybrid.evaluation.intervals import Estimate

Floats = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

NLL_FLOOR = 1e-12
"""The lowest probability that `nll` takes a logarithm of: one impossible row must not make the mean infinite."""
DRAWS_AT_ONCE = 50
"""Bootstrap draws whose row numbers are held in memory together."""


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
    return float(sklearn_metrics.accuracy_score(gold, predicted))


def confusion_matrix(gold: Array, predicted: Array, n_labels: int) -> npt.NDArray[np.int64]:
    """Return counts [n_labels, n_labels]: gold label by row, predicted label by column."""
    counts = sklearn_metrics.confusion_matrix(gold, predicted, labels=range(n_labels))
    return np.asarray(counts, dtype=np.int64)


def macro_f1(gold: Array, predicted: Array, n_labels: int) -> float:
    """Return the unweighted mean of the F1 of the labels that occur in gold or among the predictions."""
    labels = range(n_labels)
    return float(sklearn_metrics.f1_score(gold, predicted, labels=labels, average="macro", zero_division=np.nan))


def macro_f1_from_counts(gold: Array, predicted: Array, n_labels: int) -> float:
    """Return `macro_f1`, sixty times as fast: scikit-learn takes 1.4 ms a call, and a bootstrap calls 2,000 times.

    The counts are not read off a confusion matrix, which has a million cells with a thousand labels.
    """
    correct, in_gold, in_predicted = (
        np.bincount(rows, minlength=n_labels) for rows in (gold[gold == predicted], gold, predicted)
    )
    occurrences = in_gold + in_predicted
    occurs = occurrences > 0
    return float(np.mean(2 * correct[occurs] / occurrences[occurs]))


def recall_by_class(gold: Array, predicted: Array, n_labels: int) -> Floats:
    """Return the recall of each label [n_labels]; nan for a label without gold rows."""
    labels = range(n_labels)
    recall = sklearn_metrics.recall_score(gold, predicted, labels=labels, average=None, zero_division=np.nan)
    return np.asarray(recall, dtype=np.float64)


def reliability_bins(probs: Array, gold: Array, bins: int = 15) -> list[ReliabilityBin]:
    """Return bins of equal numbers of rows by the top-label confidence, least confident first.

    Equal numbers rather than equal width, so that no bin is a handful of rows (Nguyen and O'Connor 2015,
    "Posterior calibration and exploratory analysis for natural language processing models"). scikit-learn's
    `calibration_curve` cuts at quantiles, which puts ties on one side and leaves bins of unequal size.
    """
    return bins_of_confidence(*_top(probs, gold), bins)


def bins_of_confidence(confidence: Floats, correct: Array, bins: int = 15) -> list[ReliabilityBin]:
    """Return the bins of `reliability_bins` for the probability [n] that each row's answer is right.

    `correct` [n] is whether it is right, or the probability of that where the truth is only estimated.
    """
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
    return ece_of_confidence(*_top(probs, gold), bins)


def ece_of_confidence(confidence: Floats, correct: Array, bins: int = 15) -> float:
    """Return the `ece` of the probability [n] that each row's answer is right; `correct` as in `bins_of_confidence`."""
    points = bins_of_confidence(confidence, correct, bins)
    return float(sum(point.n_rows * abs(point.accuracy - point.confidence) for point in points) / len(correct))


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
    labels = range(np.shape(probs)[1])
    return float(sklearn_metrics.brier_score_loss(gold, probs, labels=labels, scale_by_half=False))


def nll_by_row(probs: Array, gold: Array) -> Floats:
    """Return minus the natural logarithm of each row's probability of gold [n], clipped at `NLL_FLOOR`.

    scikit-learn's `log_loss` gives the mean alone, and methods are compared row by row.
    """
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
    accuracy_so_far = np.cumsum(np.repeat(shared, sizes)) / ranks
    return RiskCoverage(
        coverage=ranks / len(confidence),
        accuracy=accuracy_so_far,
        risk=1 - accuracy_so_far,
        aurc=float(np.mean(1 - accuracy_so_far)),
    )


def bootstrap_interval(
    statistic: Callable[..., float], *arrays: Array, n: int = 2000, level: float = 0.95, seed: int = 0
) -> Estimate:
    """Return `statistic(*arrays)` with the percentile interval of `n` resamples of the rows.

    The rows of all arrays (same length, first axis) are drawn together, with replacement. Efron and
    Tibshirani 1993, "An introduction to the bootstrap", chapter 13.
    """
    columns = [np.asarray(array) for array in arrays]
    value = float(statistic(*columns))
    if len(columns[0]) == 1:  # one row resamples to itself; scipy refuses it
        return Estimate(value=value, low=value, high=value)
    interval = bootstrap(
        (np.arange(len(columns[0])),),
        lambda rows: statistic(*(column[rows] for column in columns)),
        n_resamples=n,
        batch=DRAWS_AT_ONCE,
        vectorized=False,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(value=value, low=float(interval.low), high=float(interval.high))


def _top(probs: Array, gold: Array) -> tuple[Floats, npt.NDArray[np.bool_]]:
    probs = np.asarray(probs, dtype=np.float64)
    return probs.max(axis=1), probs.argmax(axis=1) == np.asarray(gold)
