"""Says what a bundle's calibration rows support, and what choosing another threshold would do.

Thresholds are printed with all of their digits: one that was rounded up would escalate the last row that it should keep.
"""

from hybrid.runtime.calibration import Threshold
from hybrid.runtime.calibration_reference import Promise, Reference


def threshold_line(threshold: Threshold) -> str:
    """Describe a bundle's threshold and what it guarantees in one line."""
    if threshold.met:
        return (
            f"{threshold.value!r}: at least {threshold.target:.0%} of the answers that do not escalate are right, "
            f"with probability {1 - threshold.delta:.0%} ({threshold.kept:.0%} of {threshold.n_rows} calibration rows do "
            "not escalate)"
        )
    return (
        f"everything escalates: {threshold.n_rows} calibration rows do not support {threshold.target:.0%}; "
        f"{_needed(threshold.rows_needed)}"
    )


def promise_lines(reference: Reference | None) -> list[str]:
    """List what each promise takes, a line a target; empty for a bundle of an earlier version."""
    return [_promise_line(promise, reference.n_rows) for promise in reference.promises] if reference else []


def effect_line(reference: Reference | None, threshold: float) -> str:
    """Say what a threshold does to the calibration rows; empty where the bundle has no record of them, or keeps none."""
    if reference is None or not (points := [point for point in reference.curve if point.threshold >= threshold - 1e-9]):
        return ""
    point = points[0]
    right = "right" if reference.trusted else "in agreement with the labels as given or estimated"
    return (
        f"--threshold {threshold!r} keeps about {point.kept:.0%} of {reference.n_rows} calibration rows, of which "
        f"{point.accuracy:.1%} are {right} (at least {point.lower_bound:.1%} with probability {1 - reference.delta:.0%}, if "
        "it was chosen before looking)"
    )


def advice(threshold: Threshold, reference: Reference | None) -> str:
    """Say what to do about a bundle with which everything escalates; empty where its promise holds."""
    if threshold.met:
        return ""
    supported = [p for p in (reference.promises if reference else ()) if p.threshold is not None]
    other = (
        f"--threshold {supported[-1].threshold!r} instead promises {supported[-1].target:.0%} and keeps "
        f"{supported[-1].kept:.0%}"
        if supported
        else "--threshold sets one of your own, without a promise"
    )
    return f"{threshold_line(threshold)}. {other}"


def _promise_line(promise: Promise, n_rows: int) -> str:
    if promise.threshold is None:
        return (
            f"{promise.target:.0%} right: {n_rows} calibration rows do not support it; {_needed(promise.rows_needed)}"
        )
    return f"{promise.target:.0%} right: --threshold {promise.threshold!r} keeps {promise.kept:.0%}"


def _needed(rows: int | None) -> str:
    return (
        f"about {rows:,} would"
        if rows
        else "no number of rows would: the encoder is right less often at every confidence"
    )
