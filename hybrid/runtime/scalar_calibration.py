"""The answer for one text, on plain floats: the arithmetic of `calibration`, for few labels.

An array of three numbers costs more to set up than to compute with, and after the encoder has filled the processor's
caches it costs several times as much again: on one short text as much as a tenth of the encoder's own time.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence

from hybrid.runtime.calibration import AHEAD, TINY_REST, Calibration, Knots

FEW_LABELS = 32
"""Up to so many labels lists are quicker than arrays."""


def supports(calibration: Calibration, n_labels: int) -> bool:
    """Return whether `probs_of_one` is for this calibration: one label a text, of few."""
    return calibration.activation == "softmax" and n_labels <= FEW_LABELS


def probs_of_one(calibration: Calibration, logits: Sequence[float]) -> list[float]:
    """Return the calibrated probabilities [k] of one text's finite logits [k], as `calibration.apply` does."""
    if calibration.method == "isotonic":
        rough = softmax_of_one(logits)
        mapped = [_interpolated(p, knots) for p, knots in zip(rough, calibration.knots, strict=True)]
        return _normalised([max(p, calibration.floor) for p in mapped])
    probs = softmax_of_one(_scaled(calibration, logits))
    return _top_label(calibration, probs) if calibration.method == "top_label" else probs


def softmax_of_one(logits: Sequence[float]) -> list[float]:
    """Return probabilities [k]; large logits do not overflow."""
    highest = max(logits)
    return _normalised([math.exp(logit - highest) for logit in logits])


def _scaled(calibration: Calibration, logits: Sequence[float]) -> Sequence[float]:
    if calibration.method == "none":
        return logits
    if calibration.method == "temperature":
        return [logit / calibration.temperature for logit in logits]
    terms = zip(logits, calibration.scale, calibration.bias, strict=True)
    return [logit * scale + bias for logit, scale, bias in terms]


def _top_label(calibration: Calibration, probs: list[float]) -> list[float]:
    highest = max(probs)
    top = probs.index(highest)
    second = max(p for i, p in enumerate(probs) if i != top)
    rest = max(1 - highest, TINY_REST)
    moved = max(_interpolated(highest, calibration.knots[0]), AHEAD * second / (rest + second))
    share = (1 - moved) / rest
    return _normalised([moved if i == top else p * share for i, p in enumerate(probs)])


def _interpolated(x: float, knots: Knots) -> float:
    if x <= knots.x[0]:
        return knots.y[0]
    if x >= knots.x[-1]:
        return knots.y[-1]
    right = bisect_right(knots.x, x)
    x0, x1, y0, y1 = knots.x[right - 1], knots.x[right], knots.y[right - 1], knots.y[right]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def _normalised(values: Sequence[float]) -> list[float]:
    total = sum(values)
    return [value / total for value in values]
