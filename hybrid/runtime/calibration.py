"""From logits to probabilities that mean what they say, and the confidence below which a row escalates."""

import math
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from hybrid.errors import BundleError

Method = Literal["none", "temperature", "vector", "top_label", "isotonic"]
Activation = Literal["softmax", "sigmoid"]

NOTHING_KEPT = 2.0
"""A threshold that no confidence reaches: every row escalates."""
TINY = 1e-15
"""The lowest probability that a logarithm is taken of."""
TINY_REST = 1e-12
"""The least that the other labels share, where one of them moves alone."""
AHEAD = 1 + 1e-9
"""How far the highest probability stays above the second, as a ratio, where a calibration lowers it."""


class Knots(msgspec.Struct, frozen=True, kw_only=True):
    """A piecewise linear function from a label's softmax probability to its calibrated one."""

    x: tuple[float, ...]
    """Strictly increasing."""
    y: tuple[float, ...]


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """The fitted map from logits to probabilities; only the fields of `method` are used."""

    method: Method = "none"
    activation: Activation = "softmax"
    """sigmoid: several labels a text, each with a probability of its own; `method` is none, temperature or vector."""
    temperature: float = 1.0
    """Divides the logits (Guo et al. 2017, "On calibration of modern neural networks")."""
    scale: tuple[float, ...] = ()
    """Multiplies the logits, one factor a label (vector scaling, the same paper; with sigmoid, Platt 1999)."""
    bias: tuple[float, ...] = ()
    """Added to the scaled logits, one a label."""
    knots: tuple[Knots, ...] = ()
    """isotonic: one function a label, one label against the rest (Zadrozny and Elkan 2002). top_label: one
    function, from the highest of the vector-scaled probabilities to its calibrated value (Gupta and Ramdas 2022)."""
    floor: float = 0.0
    """The lowest value that a function of `knots` gives, before the row is made to sum to 1."""
    cutoffs: tuple[float, ...] = ()
    """sigmoid: a label is given where its probability is at least this, one a label; empty: one half for all."""
    set_scale: float = 1.0
    """sigmoid: multiplies the log-odds that the whole set of labels is right, as the labels' probabilities have it."""
    set_bias: float = 0.0
    """sigmoid: added to the scaled log-odds."""


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """What probabilities come to: the labels of each text, and how sure they are."""

    chosen: npt.NDArray[np.bool_]
    """[n, k]; with softmax one label a row."""
    confidence: npt.NDArray[np.float64]
    """[n]; the probability that the label is right, or the whole set of labels."""


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """The point of escalation and what the calibration rows say about it."""

    value: float
    """A row is kept where its confidence is at least this; `NOTHING_KEPT` escalates every row."""
    target: float
    """The accuracy promised for what is kept."""
    delta: float
    """The probability, over the draw of the calibration rows, that the promise is missed."""
    n_rows: int
    """Calibration rows."""
    kept: float
    """The share of the calibration rows that is kept."""
    accuracy_kept: float | None = None
    """Of the kept calibration rows; absent where none is kept."""
    lower_bound: float | None = None
    """Exact binomial lower bound of that accuracy at 1 - delta; absent where none is kept."""
    met: bool
    """Whether the calibration rows support the target."""
    rows_needed: int | None = None
    """About how many calibration rows would support it; absent where it is met, or where none would."""


def apply(calibration: Calibration, logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return calibrated probabilities [n, k] of logits [n, k]; they are finite, and with softmax a row sums to 1.

    Raises:
        BundleError: a logit is not finite, or the calibration was fitted for another number of labels.
    """
    logits = np.asarray(logits, dtype=np.float64)
    _check(calibration, logits)
    if calibration.activation == "sigmoid":
        return sigmoid(_scaled(calibration, logits))
    if calibration.method == "isotonic":
        return _isotonic(calibration, softmax(logits))
    probs = softmax(_scaled(calibration, logits))
    return _top_label(calibration, probs) if calibration.method == "top_label" else probs


def decide(calibration: Calibration, probs: npt.NDArray[np.float64]) -> Decided:
    """Return the labels that the probabilities [n, k] of `apply` come to, and the confidence of each row.

    With softmax that is the most probable label. With sigmoid it is every label that reaches its cutoff, and the
    confidence is the product over the labels of the probability of the side decided, which takes them as
    independent, moved by `set_scale` and `set_bias`, which learn from the calibration rows how far they are not.
    """
    if calibration.activation == "softmax":
        best = probs.argmax(axis=1)
        return Decided(chosen=best[:, None] == np.arange(probs.shape[1]), confidence=probs.max(axis=1))
    chosen = probs >= (np.asarray(calibration.cutoffs) if calibration.cutoffs else 0.5)
    log_odds = set_log_odds(probs, chosen)
    return Decided(chosen=chosen, confidence=sigmoid(calibration.set_scale * log_odds + calibration.set_bias))


def set_log_odds(probs: npt.NDArray[np.float64], chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return the log-odds that each row's whole set is right [n], its labels [n, k] taken as independent."""
    log_right: npt.NDArray[np.float64] = np.log(np.maximum(np.where(chosen, probs, 1 - probs), TINY)).sum(axis=1)
    # At most a hair below certainty: the odds of a product of ones would be infinite.
    wrong = np.maximum(-np.expm1(log_right), TINY)
    return np.asarray(log_right - np.log(wrong), dtype=np.float64)


def sigmoid(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the probability of each logit in float64; large logits do not overflow."""
    shrunk = np.exp(-np.abs(logits))
    return np.asarray(np.where(logits >= 0, 1.0, shrunk) / (1 + shrunk), dtype=np.float64)


def softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return probabilities [n, k] in float64; large logits do not overflow."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), dtype=np.float64)


def _scaled(calibration: Calibration, logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    if calibration.method == "none":
        return logits
    if calibration.method == "temperature":
        return logits / calibration.temperature
    return logits * np.asarray(calibration.scale, dtype=np.float64) + np.asarray(calibration.bias, dtype=np.float64)


def _top_label(calibration: Calibration, probs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Move the highest probability of each row along the one function; the others share the rest as they did."""
    rows, top = np.arange(len(probs)), probs.argmax(axis=1)
    highest, second = probs[rows, top], np.partition(probs, -2, axis=1)[:, -2]
    rest = np.maximum(1 - highest, TINY_REST)
    knots = calibration.knots[0]
    # Not so low that another label would draw level: the answer stays the same, only its probability moves.
    moved = np.maximum(np.interp(highest, knots.x, knots.y), AHEAD * second / (rest + second))
    mapped = probs * ((1 - moved) / rest)[:, None]
    mapped[rows, top] = moved
    return np.asarray(mapped / mapped.sum(axis=1, keepdims=True), dtype=np.float64)


def _isotonic(calibration: Calibration, probs: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    mapped = np.column_stack(
        [np.interp(column, knots.x, knots.y) for column, knots in zip(probs.T, calibration.knots, strict=True)]
    )
    # The floor keeps every sum above zero and every logarithm finite.
    mapped = np.maximum(mapped, calibration.floor)
    return np.asarray(mapped / mapped.sum(axis=1, keepdims=True), dtype=np.float64)


def _check(calibration: Calibration, logits: npt.NDArray[np.float64]) -> None:
    """Raise `BundleError` where the logits cannot be those the calibration was fitted for."""
    n_scales = len(calibration.scale)
    sizes = {"vector": n_scales, "top_label": n_scales, "isotonic": len(calibration.knots)}
    fitted = sizes.get(calibration.method, len(calibration.cutoffs) or None)
    if logits.ndim != 2 or (fitted is not None and logits.shape[1] != fitted):
        wanted = "rows x labels" if fitted is None else f"rows x {fitted} labels"
        raise BundleError(
            f"calibration: logits of shape {logits.shape} came, {wanted} wanted; "
            "the calibration belongs to another model, so run the recipe from export on"
        )
    if not math.isfinite(logits.sum()):
        row = int(np.argmin(np.isfinite(logits).all(axis=1)))
        raise BundleError(
            f"calibration: the logits of row {row} are {logits[row].tolist()}, finite numbers wanted; "
            "the model is damaged or overflows, so export it again"
        )
