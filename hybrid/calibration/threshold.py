"""Chooses the confidence below which a row escalates, so that the kept rows reach a target accuracy.

The guarantee concerns the population from which the calibration rows are drawn: over draws of the calibration rows, the
accuracy of the rows that the encoder keeps is below the target with a probability of at most delta. Throughout,
`confidence` [n] is the probability of the predicted label, `correct` [n] is True where that is the true label (or the
probability that it is, where the true label is only estimated), and a row is kept (not escalated) if its confidence reaches
the threshold.
"""

import math
from bisect import bisect_left

import numpy as np
import numpy.typing as npt
from scipy.stats import beta, binom

from hybrid.runtime.calibration import NOTHING_KEPT, Threshold

Floats = npt.NDArray[np.float64]
Correct = npt.NDArray[np.bool_] | Floats

MAX_THRESHOLDS = 30
"""The most thresholds that are tested: steps of about 3 % of the rows."""
ERRORS_SURVIVED = 5
"""Errors that the test of the strictest threshold survives, if there are enough rows. A sequence that starts on fewer rows
can fail its first test over a few mislabelled rows among the most confident, and then keeps nothing."""
MAX_FIRST_SHARE = 1 / 3
"""The largest share of the rows that the strictest threshold may keep for the sake of surviving errors."""
POWER = 0.8
"""The probability of passing the test for which `rows_needed` is computed."""
MAX_ROWS = 10**9
"""The largest number of rows that is considered."""


def lower_bound(n_correct: float, n_rows: int, delta: float) -> float:
    """Compute the one-sided exact lower bound at 1 - delta of a binomial proportion (Clopper and Pearson 1934)."""
    return float(beta.ppf(delta, n_correct, n_rows - n_correct + 1)) if n_correct else 0.0


def choose_threshold(confidence: Floats, correct: Correct, *, target: float, delta: float) -> Threshold:
    """Choose the lowest threshold that passes a fixed sequence of exact binomial tests.

    The thresholds of `candidates` are tested from high to low, each at level delta, and the first
    failure ends the sequence. Only the first threshold whose true accuracy is below the target can be a
    mistake, and passing it has probability delta at most, so no correction for the number of tests is needed
    (Bauer 1991, "Multiple testing in clinical trials"; Angelopoulos et al. 2021, "Learn then test").

    Neither the sequence nor the confidences may depend on `correct`: pass confidences of a calibration that was fitted
    without the row (cross-fitted). With in-sample confidences, isotonic regression misses the target far more often than
    delta. One approximation remains: the threshold is used with the calibration that is fitted on all rows.
    `benchmarks/guarantee.py` measures the whole procedure.
    """
    sequence = candidates(confidence, target=target, delta=delta)
    lowest_passed = NOTHING_KEPT
    for value in sequence:
        kept = confidence >= value
        if lower_bound(float(correct[kept].sum()), int(kept.sum()), delta) < target:
            break
        lowest_passed = value
    if lowest_passed < NOTHING_KEPT:
        return _threshold(confidence, correct, lowest_passed, target=target, delta=delta, met=True)
    rows_needed = _rows_needed(confidence, correct, sequence, target=target, delta=delta)
    return _threshold(
        confidence, correct, lowest_passed, target=target, delta=delta, met=False, rows_needed=rows_needed
    )


def candidates(confidence: Floats, *, target: float, delta: float) -> list[float]:
    """Choose the thresholds to test, from high to low, by the confidences alone; empty if no test could pass.

    They are quantiles. Each lies just above the confidence of one row. Given that row, the rows above it are a plain
    sample of the population above it, so the binomial test is exact.
    """
    n_rows = len(confidence)
    start = _first_kept(n_rows, target, delta)
    if start > n_rows:
        return []
    descending = np.sort(confidence)[::-1]
    sequence: list[float] = []
    for n_kept in np.unique(np.linspace(start, n_rows, MAX_THRESHOLDS).round().astype(int)):
        # Six digits read well in a bundle; rounding up only ever keeps fewer rows.
        value = math.ceil(descending[n_kept] * 1e6) / 1e6 if n_kept < n_rows else float(descending[-1])
        # Ties in confidence can leave fewer rows above the value than the first test needs.
        if np.count_nonzero(confidence >= value) >= start and value not in sequence:
            sequence.append(value)
    return sequence


def _first_kept(n_rows: int, target: float, delta: float) -> int:
    """Compute how many rows the strictest threshold keeps; more than `n_rows` if no test could pass."""
    starts = [fewest_rows(errors, target, delta) for errors in range(ERRORS_SURVIVED + 1)]
    return max([start for start in starts if start <= MAX_FIRST_SHARE * n_rows], default=starts[0])


def fewest_rows(errors: int, target: float, delta: float) -> int:
    """Compute the size of the smallest sample that passes the test of `target` with that many errors."""
    sizes = range(errors + 1, MAX_ROWS)
    return sizes[bisect_left(sizes, True, key=lambda n_rows: bool(binom.cdf(errors, n_rows, 1 - target) <= delta))]


def naive_threshold(confidence: Floats, correct: Correct, *, target: float, delta: float) -> Threshold:
    """Find the lowest threshold at which the accuracy of the kept calibration rows reaches the target.

    For comparison only: it treats a point estimate as the truth, and misses the target about half the time.
    """
    order = np.argsort(-confidence, kind="stable")
    accuracy = np.cumsum(correct[order], dtype=np.float64) / np.arange(1, len(order) + 1)
    last_of_its_value = np.append(np.diff(confidence[order]) != 0, True)
    reached = np.flatnonzero((accuracy >= target) & last_of_its_value)
    value = float(confidence[order][reached[-1]]) if len(reached) else NOTHING_KEPT
    return _threshold(confidence, correct, value, target=target, delta=delta, met=len(reached) > 0)


def describe_threshold(threshold: Threshold) -> str:
    """Describe a threshold and its guarantee in the sentences that the report prints."""
    probability, target = (f"{share * 100:.4g}%" for share in (1 - threshold.delta, threshold.target))
    if threshold.met:
        return (
            f"With probability {probability}, at least {target} of the encoder's own answers are right where its "
            f"confidence is {threshold.value!r} or more. Those are {threshold.kept:.1%} of the {threshold.n_rows} "
            f"calibration rows, and {threshold.accuracy_kept:.1%} of them are right."
        )
    if threshold.rows_needed is None:
        return (
            f"Every row escalates: {threshold.n_rows} calibration rows cannot guarantee an accuracy of {target}, and more "
            "rows would not either, because the encoder is right less often than that at every confidence. Lower "
            "calibrate.target or train a better encoder."
        )
    return (
        f"Every row escalates: {threshold.n_rows} calibration rows cannot guarantee an accuracy of {target} with "
        f"probability {probability}; about {threshold.rows_needed} rows would. Label more calibration rows or lower "
        "calibrate.target."
    )


def _threshold(
    confidence: Floats,
    correct: Correct,
    value: float,
    *,
    target: float,
    delta: float,
    met: bool,
    rows_needed: int | None = None,
) -> Threshold:
    kept = confidence >= value
    n_kept, n_correct = int(kept.sum()), float(correct[kept].sum())
    return Threshold(
        value=value,
        target=target,
        delta=delta,
        n_rows=len(confidence),
        kept=n_kept / len(confidence),
        accuracy_kept=n_correct / n_kept if n_kept else None,
        lower_bound=lower_bound(n_correct, n_kept, delta) if n_kept else None,
        met=met,
        rows_needed=rows_needed,
    )


def _rows_needed(
    confidence: Floats, correct: Correct, sequence: list[float], *, target: float, delta: float
) -> int | None:
    """Estimate how many calibration rows would pass the test, to two digits; None if no number would.

    It is the smallest number over the thresholds tried, assuming that the accuracy on these rows is the true accuracy.
    """
    quartiles = np.quantile(confidence, [0.75, 0.5, 0.25, 0.0]).tolist()
    estimates = []
    for value in sequence or quartiles:
        kept = confidence >= value
        accuracy = float(correct[kept].mean())
        if accuracy > target:
            estimates.append(_rows_that_support(accuracy, target, delta) / float(kept.mean()))
    if not estimates:
        return None
    fewest = max(min(estimates), len(confidence) + 1)
    unit = int(10 ** max(0, math.floor(math.log10(fewest)) - 1))
    return math.ceil(fewest / unit) * unit


def _rows_that_support(accuracy: float, target: float, delta: float) -> int:
    """Compute how many kept rows of that true accuracy pass the test with probability `POWER`, within 3 %."""
    n_rows = np.unique(np.geomspace(10, MAX_ROWS, 700).astype(np.int64))
    fewest_correct = binom.isf(delta, n_rows, target) + 1
    passes = binom.sf(fewest_correct - 1, n_rows, accuracy) >= POWER
    return int(n_rows[np.argmax(passes)] if passes.any() else n_rows[-1])
