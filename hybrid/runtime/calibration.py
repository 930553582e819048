"""From logits to calibrated probabilities, and from those to labels.

`CALIBRATORS` is the one table of the methods. Each is written twice, side by side: for arrays, and for one text on plain
floats. An array of three numbers costs more to set up than to compute with, and once the encoder has filled the
processor's caches it costs several times as much again: on one short text as much as a tenth of the encoder's own time.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from hybrid.errors import BundleError

Floats = npt.NDArray[np.float64]
Activation = Literal["softmax", "sigmoid"]

NOTHING_KEPT = 2.0
"""A threshold that no confidence reaches: every row escalates."""
FEW_LABELS = 32
"""Up to this many labels, plain floats are faster than arrays for one text."""
MIN_PROB = 1e-15
"""The lowest probability that a logarithm is taken of."""
MIN_REST = 1e-12
"""The least that the other labels share, where one of them moves alone."""
TOP_MARGIN = 1 + 1e-9
"""The ratio by which the highest probability stays above the second, where a calibration lowers it."""


class Knots(msgspec.Struct, frozen=True, kw_only=True):
    """A piecewise linear function from a label's softmax probability to its calibrated one."""

    x: tuple[float, ...]
    """Strictly increasing."""
    y: tuple[float, ...]


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """The fitted map from logits to probabilities; only the fields of `method` are used."""

    method: str = "none"
    """A key of `CALIBRATORS`."""
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
    members: tuple["Calibration", ...] = ()
    """average: the calibrations whose probabilities are averaged."""
    weights: tuple[float, ...] = ()
    """average: the weight of each member; they sum to 1."""

    def __post_init__(self) -> None:
        """Refuse a method that does not exist or cannot calibrate several labels a text, and an average of nothing.

        Raises:
            ValueError: the table has no such method, or the members of an average do not match its weights.
        """
        methods = [name for name, entry in CALIBRATORS.items() if self.activation == "softmax" or entry.apply_to_sets]
        if self.method not in methods:
            raise ValueError(
                f"calibration method {self.method!r} with {self.activation}: expected one of {', '.join(methods)}"
            )
        if self.method == "average":
            self._check_members()

    def _check_members(self) -> None:
        if not self.members or len(self.members) != len(self.weights) or any(m.members for m in self.members):
            raise ValueError(
                f"calibration method 'average': expected a weight for each of one or more members that are no averages, "
                f"got {len(self.weights)} weights for {len(self.members)} members"
            )


class Calibrator(msgspec.Struct, frozen=True, kw_only=True):
    """One method of calibration, as `CALIBRATORS` has it. To add one: an entry here, and a fit in
    `hybrid.calibration.calibrators`."""

    apply: Callable[[Calibration, Floats], Floats]
    """Turns logits [n, k] into probabilities [n, k]; each row sums to 1."""
    apply_one: Callable[[Calibration, Sequence[float]], list[float]]
    """Does the same for the logits [k] of one text."""
    apply_to_sets: Callable[[Calibration, Floats], Floats] | None = None
    """Turns logits [n, k] into a probability for each label on its own; None where a text must have one label."""
    n_labels: Callable[[Calibration], int | None] | None = None
    """Counts the labels that a calibration was fitted for; None where it suits any number."""
    in_recipe: bool = True
    """Whether a recipe may name it among the methods to fit."""


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """The labels decided from the probabilities of several texts, and the confidence in each text's labels."""

    chosen: npt.NDArray[np.bool_]
    """The chosen labels [n, k]; with softmax one per row."""
    confidence: Floats
    """The probability [n] that the label, or the whole set of labels, is right."""


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """The confidence below which a text escalates, and the guarantee that the calibration rows support."""

    value: float
    """A row is accepted where its confidence is at least this; `NOTHING_KEPT` escalates every row."""
    target: float
    """The accuracy that is guaranteed for kept texts."""
    delta: float
    """The probability, over the draw of the calibration rows, that the guarantee fails."""
    n_rows: int
    """The number of calibration rows."""
    kept: float
    """The share of the calibration rows that is kept."""
    accuracy_kept: float | None = None
    """The accuracy on the kept calibration rows; absent if none is kept."""
    lower_bound: float | None = None
    """Exact binomial lower bound of that accuracy at 1 - delta; absent where none is kept."""
    met: bool
    """Whether the calibration rows support the target."""
    rows_needed: int | None = None
    """About how many calibration rows would support the target; absent if it is met, or if no number would."""


def apply(calibration: Calibration, logits: npt.NDArray[Any]) -> Floats:
    """Turn logits [n, k] into calibrated probabilities [n, k]: finite, and with softmax each row sums to 1.

    Raises:
        BundleError: a logit is not finite, or the calibration was fitted for another number of labels.
    """
    logits = np.asarray(logits, dtype=np.float64)
    calibrator = CALIBRATORS[calibration.method]
    _check(calibration, logits)
    if calibration.activation == "sigmoid" and calibrator.apply_to_sets:
        return calibrator.apply_to_sets(calibration, logits)
    return calibrator.apply(calibration, logits)


def apply_one(calibration: Calibration, logits: Sequence[float]) -> list[float]:
    """Do what `apply` does for the finite logits [k] of one text that has one label; quick where the labels are few."""
    if len(logits) > FEW_LABELS:
        probs: list[float] = apply(calibration, np.array([logits]))[0].tolist()
        return probs
    return CALIBRATORS[calibration.method].apply_one(calibration, logits)


def decide(calibration: Calibration, probs: Floats) -> Decided:
    """Decide the labels of each row from the probabilities [n, k] of `apply`, with the confidence of each row.

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


def set_log_odds(probs: Floats, chosen: npt.NDArray[np.bool_]) -> Floats:
    """Compute the log-odds [n] that each row's whole set is right, its labels [n, k] taken as independent."""
    log_right: Floats = np.log(np.maximum(np.where(chosen, probs, 1 - probs), MIN_PROB)).sum(axis=1)
    # At most a hair below certainty: the odds of a product of ones would be infinite.
    wrong = np.maximum(-np.expm1(log_right), MIN_PROB)
    return np.asarray(log_right - np.log(wrong), dtype=np.float64)


def sigmoid(logits: Floats) -> Floats:
    """Compute the probability of each logit in float64; large logits do not overflow."""
    shrunk = np.exp(-np.abs(logits))
    return np.asarray(np.where(logits >= 0, 1.0, shrunk) / (1 + shrunk), dtype=np.float64)


def softmax(logits: Floats) -> Floats:
    """Compute probabilities [n, k] in float64; large logits do not overflow."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), dtype=np.float64)


def _softmax_one(logits: Sequence[float]) -> list[float]:
    highest = max(logits)
    return _normalised([math.exp(logit - highest) for logit in logits])


def _normalised(values: Sequence[float]) -> list[float]:
    total = sum(values)
    return [value / total for value in values]


def _from_scaling(
    scale: Callable[[Calibration, Floats], Floats],
    scale_one: Callable[[Calibration, Sequence[float]], Sequence[float]],
    n_labels: Callable[[Calibration], int | None] | None = None,
    *,
    in_recipe: bool = True,
) -> Calibrator:
    """Make the calibrator that moves the logits and takes their softmax, or with several labels a text their sigmoid."""
    return Calibrator(
        apply=lambda calibration, logits: softmax(scale(calibration, logits)),
        apply_one=lambda calibration, logits: _softmax_one(scale_one(calibration, logits)),
        apply_to_sets=lambda calibration, logits: sigmoid(scale(calibration, logits)),
        n_labels=n_labels,
        in_recipe=in_recipe,
    )


def _vector(calibration: Calibration, logits: Floats) -> Floats:
    return logits * np.asarray(calibration.scale, dtype=np.float64) + np.asarray(calibration.bias, dtype=np.float64)


def _vector_one(calibration: Calibration, logits: Sequence[float]) -> list[float]:
    terms = zip(logits, calibration.scale, calibration.bias, strict=True)
    return [logit * scale + bias for logit, scale, bias in terms]


def _top_label(calibration: Calibration, logits: Floats) -> Floats:
    """Move the highest probability of each row along the one function; the others share the rest in proportion."""
    probs = softmax(_vector(calibration, logits))
    rows, top = np.arange(len(probs)), probs.argmax(axis=1)
    highest, second = probs[rows, top], np.partition(probs, -2, axis=1)[:, -2]
    rest = np.maximum(1 - highest, MIN_REST)
    knots = calibration.knots[0]
    # Not so low that another label would draw level: the answer stays the same, only its probability moves. Nor zero, for
    # the others may all have underflowed.
    moved = np.maximum(
        np.interp(highest, knots.x, knots.y), np.maximum(TOP_MARGIN * second / (rest + second), MIN_REST)
    )
    mapped = probs * ((1 - moved) / rest)[:, None]
    mapped[rows, top] = moved
    return np.asarray(mapped / mapped.sum(axis=1, keepdims=True), dtype=np.float64)


def _top_label_one(calibration: Calibration, logits: Sequence[float]) -> list[float]:
    probs = _softmax_one(_vector_one(calibration, logits))
    highest = max(probs)
    top = probs.index(highest)
    second = max(p for i, p in enumerate(probs) if i != top)
    rest = max(1 - highest, MIN_REST)
    moved = max(_interpolated(highest, calibration.knots[0]), TOP_MARGIN * second / (rest + second), MIN_REST)
    share = (1 - moved) / rest
    return _normalised([moved if i == top else p * share for i, p in enumerate(probs)])


def _isotonic(calibration: Calibration, logits: Floats) -> Floats:
    """Map each label's probability by its own function; the floor keeps every sum above zero, every logarithm finite."""
    columns = zip(softmax(logits).T, calibration.knots, strict=True)
    mapped = np.column_stack([np.interp(column, knots.x, knots.y) for column, knots in columns])
    mapped = np.maximum(mapped, calibration.floor)
    return np.asarray(mapped / mapped.sum(axis=1, keepdims=True), dtype=np.float64)


def _isotonic_one(calibration: Calibration, logits: Sequence[float]) -> list[float]:
    terms = zip(_softmax_one(logits), calibration.knots, strict=True)
    return _normalised([max(_interpolated(p, knots), calibration.floor) for p, knots in terms])


def _average(calibration: Calibration, logits: Floats) -> Floats:
    terms = zip(calibration.weights, calibration.members, strict=True)
    return np.asarray(sum(weight * CALIBRATORS[member.method].apply(member, logits) for weight, member in terms))


def _average_one(calibration: Calibration, logits: Sequence[float]) -> list[float]:
    of_members = [CALIBRATORS[member.method].apply_one(member, logits) for member in calibration.members]
    return [
        sum(weight * p for weight, p in zip(calibration.weights, of_label, strict=True))
        for of_label in zip(*of_members, strict=True)
    ]


def _n_labels_of_members(calibration: Calibration) -> int | None:
    """Count the labels that the members were fitted for; None where they suit any number."""
    counts = {n for member in calibration.members if (n := _n_labels(member)) is not None}
    return max(counts, default=None)


def _interpolated(x: float, knots: Knots) -> float:
    if x <= knots.x[0]:
        return knots.y[0]
    if x >= knots.x[-1]:
        return knots.y[-1]
    right = bisect_right(knots.x, x)
    x0, x1, y0, y1 = knots.x[right - 1], knots.x[right], knots.y[right - 1], knots.y[right]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


CALIBRATORS: dict[str, Calibrator] = {
    "none": _from_scaling(lambda _, logits: logits, lambda _, logits: logits, in_recipe=False),
    "temperature": _from_scaling(
        lambda calibration, logits: logits / calibration.temperature,
        lambda calibration, logits: [logit / calibration.temperature for logit in logits],
    ),
    "vector": _from_scaling(_vector, _vector_one, lambda calibration: len(calibration.scale)),
    "top_label": Calibrator(
        apply=_top_label, apply_one=_top_label_one, n_labels=lambda calibration: len(calibration.scale)
    ),
    "isotonic": Calibrator(
        apply=_isotonic, apply_one=_isotonic_one, n_labels=lambda calibration: len(calibration.knots)
    ),
    "average": Calibrator(apply=_average, apply_one=_average_one, n_labels=_n_labels_of_members, in_recipe=False),
}
"""Every method of calibration by its name. The settings of a recipe and the fits are held against these keys."""


def _n_labels(calibration: Calibration) -> int | None:
    """Count the labels that a calibration was fitted for; None where it suits any number."""
    count = CALIBRATORS[calibration.method].n_labels
    return count(calibration) if count else len(calibration.cutoffs) or None


def _check(calibration: Calibration, logits: Floats) -> None:
    """Refuse logits that cannot be those that the calibration was fitted for.

    Raises:
        BundleError: another number of labels, or a logit that is not finite.
    """
    n_labels = _n_labels(calibration)
    if logits.ndim != 2 or (n_labels is not None and logits.shape[1] != n_labels):
        shape = "[rows, labels]" if n_labels is None else f"[rows, {n_labels}]"
        raise BundleError(
            f"calibration: expected logits of shape {shape}, got {list(logits.shape)}; "
            "the calibration belongs to another model, so run the recipe from export on"
        )
    if not math.isfinite(logits.sum()):
        row = int(np.argmin(np.isfinite(logits).all(axis=1)))
        raise BundleError(
            f"calibration: expected finite logits, got {logits[row].tolist()} in row {row}; "
            "the model is damaged or overflows, so export it again"
        )
