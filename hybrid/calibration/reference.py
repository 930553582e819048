"""Builds a bundle's reference from its calibration rows, for drift detection and for choosing another threshold."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hybrid.calibration.threshold import Correct, choose_threshold, lower_bound
from hybrid.runtime.calibration import Threshold
from hybrid.runtime.calibration_reference import Histogram, Point, Promise

Floats = npt.NDArray[np.float64]

MAX_CELLS = 10
"""Deciles, which the rules of thumb for the population stability index assume."""
MIN_ROWS_PER_CELL = 10
"""With fewer rows the share of a cell is too uncertain."""
N_CURVE_POINTS = 50
"""The number of thresholds on the curve, in steps of 2 % of the rows."""
THRESHOLD_TOLERANCE = 2e-6
"""Thresholds that differ by less, which is rounding, count as equal."""
TARGETS = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.99)
"""The accuracies of which a bundle says what they take, beside the recipe's own."""
MIN_ROWS_KEPT = 10
"""The curve ends at this many kept rows, because fewer cannot show an accuracy."""


def histogram(values: npt.ArrayLike) -> Histogram:
    """Cut the values [n] at their quantiles into cells of about equal numbers of rows; equal values share a cell."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n_cells = max(1, min(MAX_CELLS, len(ordered) // MIN_ROWS_PER_CELL))
    positions = np.linspace(0, len(ordered), n_cells + 1)[1:-1].round().astype(int)
    starts = np.unique(np.searchsorted(ordered, ordered[positions]))
    # An edge lies half way between two values, so that rounding on another CPU moves no row over it.
    edges = [float(ordered[start - 1] + ordered[start]) / 2 for start in starts if start > 0]
    cells = np.searchsorted(np.asarray(edges), ordered, side="right")
    return Histogram(edges=tuple(edges), rows=tuple(np.bincount(cells, minlength=len(edges) + 1).tolist()))


def counts_by_label(predicted: Sequence[str]) -> dict[str, int]:
    """Count the rows of each predicted label, the most frequent first and ties by name."""
    counts = Counter(predicted)
    return {label: counts[label] for label in sorted(counts, key=lambda label: (-counts[label], label))}


def curve(confidence: Floats, correct: Correct, chosen: Threshold) -> tuple[Point, ...]:
    """Compute share and accuracy of the kept rows for thresholds from low to high, the chosen threshold among them.

    The thresholds are steps of equal numbers of rows. `confidence` [n] and `correct` [n] must be out of sample.
    """
    descending = np.sort(confidence)[::-1]
    sizes = np.linspace(min(MIN_ROWS_KEPT, len(confidence)), len(confidence), N_CURVE_POINTS).round().astype(int)
    values = [math.floor(descending[size - 1] * 1e6) / 1e6 for size in sizes]
    others = {value for value in values if abs(value - chosen.value) > THRESHOLD_TOLERANCE}
    thresholds = sorted({*others, *([chosen.value] if chosen.kept else [])})
    return tuple(_point(value, confidence, correct, chosen.delta) for value in thresholds)


def promises(confidence: Floats, correct: Correct, *, target: float, delta: float) -> tuple[Promise, ...]:
    """Find for several accuracies, `target` among them, the threshold that supports it, or how many rows would."""
    chosen_thresholds = [
        choose_threshold(confidence, correct, target=t, delta=delta) for t in sorted({*TARGETS, target})
    ]
    return tuple(
        Promise(
            target=chosen.target,
            threshold=chosen.value if chosen.met else None,
            kept=chosen.kept,
            rows_needed=chosen.rows_needed,
        )
        for chosen in chosen_thresholds
    )


def _point(threshold: float, confidence: Floats, correct: Correct, delta: float) -> Point:
    kept = confidence >= threshold
    n_kept, n_correct = int(kept.sum()), float(correct[kept].sum())
    return Point(
        threshold=threshold,
        kept=n_kept / len(confidence),
        accuracy=n_correct / n_kept,
        lower_bound=lower_bound(n_correct, n_kept, delta),
    )
