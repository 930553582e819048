"""Describe the calibration rows as a bundle answers them, for drift and for the choice of a threshold."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hybrid.calibration.threshold import lower_bound
from hybrid.runtime.calibration import Threshold
from hybrid.runtime.calibration_reference import Histogram, Point

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MOST_CELLS = 10
"""Deciles: what the rules of thumb about shifts between histograms were made for."""
ROWS_A_CELL = 10
"""Fewer rows in a cell say little about its share."""
POINTS = 50
"""Thresholds of the curve: steps of 2 % of the rows."""
NEAR = 2e-6
"""Two thresholds that differ by rounding alone are one."""
FEWEST_KEPT = 10
"""The curve ends where fewer rows are kept than say anything about an accuracy."""


def histogram(values: npt.ArrayLike) -> Histogram:
    """Return the quantiles of the values [n] as cells of about equal numbers of rows; equal values share a cell."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    n_cells = max(1, min(MOST_CELLS, len(ordered) // ROWS_A_CELL))
    places = np.linspace(0, len(ordered), n_cells + 1)[1:-1].round().astype(int)
    starts = np.unique(np.searchsorted(ordered, ordered[places]))
    # Half way between two values: rounding on another processor moves no row over an edge.
    edges = [float(ordered[start - 1] + ordered[start]) / 2 for start in starts if start > 0]
    cells = np.searchsorted(np.asarray(edges), ordered, side="right")
    return Histogram(edges=tuple(edges), rows=tuple(np.bincount(cells, minlength=len(edges) + 1).tolist()))


def counts_by_label(predicted: Sequence[str]) -> dict[str, int]:
    """Return the rows of each predicted label, the most frequent first and equal ones by name."""
    counted = Counter(predicted)
    return {label: counted[label] for label in sorted(counted, key=lambda label: (-counted[label], label))}


def curve(confidence: Floats, correct: Bools, chosen: Threshold) -> tuple[Point, ...]:
    """Return what thresholds from loose to strict come to, in steps of equal numbers of rows and at the one chosen.

    `confidence` [n] and `correct` [n] must be out of sample.
    """
    descending = np.sort(confidence)[::-1]
    sizes = np.linspace(min(FEWEST_KEPT, len(confidence)), len(confidence), POINTS).round().astype(int)
    values = [math.floor(descending[size - 1] * 1e6) / 1e6 for size in sizes]
    others = {value for value in values if abs(value - chosen.value) > NEAR}
    thresholds = sorted({*others, *([chosen.value] if chosen.kept else [])})
    return tuple(_point(value, confidence, correct, chosen.delta) for value in thresholds)


def _point(threshold: float, confidence: Floats, correct: Bools, delta: float) -> Point:
    kept = confidence >= threshold
    n_kept, n_correct = int(kept.sum()), int(correct[kept].sum())
    return Point(
        threshold=threshold,
        kept=n_kept / len(confidence),
        accuracy=n_correct / n_kept,
        lower_bound=lower_bound(n_correct, n_kept, delta),
    )
