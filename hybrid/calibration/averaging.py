"""Averages the fitted calibrations of one set of rows, with weights by cross-validated likelihood.

An average misses less than a choice: on few rows the methods' likelihoods are too close to tell the best one
(`benchmarks/calibration.py` compares both). The encoder's own probabilities are a member, so that a fit that only adds
noise gets little weight. The weights are those of stacking (Yao et al. 2018, "Using stacking to average Bayesian
predictive distributions").
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from hybrid.calibration.calibrators import FITS, Fits, cross_entropy_by_row
from hybrid.data.folds import stratified_folds
from hybrid.evaluation.metrics import NLL_FLOOR
from hybrid.runtime.calibration import Calibration, apply

Floats = npt.NDArray[np.float64]

AVERAGE = "average"
EM_STEPS = 500
SMALLEST_CHANGE = 1e-6
"""The weights are final when no weight changes by more in one step."""
ROWS_FOR_NONE = 2.0
"""Pseudo-count: so many rows speak for the encoder's own probabilities. Where no method gains anything, they get nearly all
of the weight, and where one does, they cost little."""
MIN_WEIGHT = 0.01
"""A member with a smaller weight is left out: it costs time on every text and moves no probability by more."""


class CrossFitted(msgspec.Struct, frozen=True, kw_only=True):
    """The fitted calibration, and each row's probabilities from fits of its members without that row's fold."""

    calibration: Calibration
    probs: Floats
    """[n, n_labels]; out of sample."""
    cv_nll: dict[str, float]
    """The cross-validated NLL of each method tried, and of their average."""
    weights: dict[str, float]
    """The weight of each method in the average; they sum to 1."""


def cross_fit(
    logits: npt.NDArray[np.float32] | Floats, targets: Floats, methods: Sequence[str], *, folds: int, seed: int
) -> CrossFitted:
    """Fit the average of none and the `methods` on all rows, and give every row a probability out of sample.

    `targets` [n, k] has the probability of each label, one-hot where the label is known. Folds are stratified on the most
    probable label and drawn with `seed`. Only the weights, a number a method, are fitted with the row that they judge.
    """
    logits = np.asarray(logits, dtype=np.float64)
    tried = out_of_sample(logits, targets, methods, folds=folds, seed=seed)
    weights = _without_small(stacking_weights(tried, targets))
    probs = sum((weight * tried[method] for method, weight in weights.items()), np.zeros_like(logits))
    return CrossFitted(
        calibration=average(Fits(logits, targets), weights),
        probs=probs,
        cv_nll={
            name: float(cross_entropy_by_row(of_method, targets).mean())
            for name, of_method in (tried | {AVERAGE: probs}).items()
        },
        weights=weights,
    )


def out_of_sample(
    logits: Floats, targets: Floats, methods: Sequence[str], *, folds: int, seed: int
) -> dict[str, Floats]:
    """Compute the probabilities [n, k] of none and of each method, those of a row from a fit without its fold."""
    tried = {"none": apply(Calibration(), logits)} | {
        method: np.empty_like(logits) for method in FITS if method in methods
    }
    fold = stratified_folds(targets.argmax(axis=1), folds, seed)
    for index in np.unique(fold):
        held_out = fold == index
        fits = Fits(logits[~held_out], targets[~held_out])
        for method in tried.keys() - {"none"}:
            tried[method][held_out] = apply(fits.of(method), logits[held_out])
    return tried


def stacking_weights(tried: Mapping[str, Floats], targets: Floats) -> dict[str, float]:
    """Find the weights with which the average of probabilities [n, k] has the lowest cross-entropy.

    The problem is convex; expectation maximisation never leaves the simplex. `none` starts with `ROWS_FOR_NONE` rows.
    """
    rows, columns = np.nonzero(targets)
    of_target = targets[rows, columns]
    probs = np.stack([np.maximum(of_method[rows, columns], NLL_FLOOR) for of_method in tried.values()], axis=1)
    prior = np.array([ROWS_FOR_NONE * (method == "none") for method in tried])
    weights = np.full(len(tried), 1 / len(tried))
    for _ in range(EM_STEPS):
        shares = probs * weights
        shares /= shares.sum(axis=1, keepdims=True)
        updated = of_target @ shares + prior
        updated /= updated.sum()
        change = np.abs(updated - weights).max()
        weights = updated
        if change < SMALLEST_CHANGE:
            break
    return dict(zip(tried, weights.tolist(), strict=True))


def average(fits: Fits, weights: Mapping[str, float]) -> Calibration:
    """Make the average of the fitted methods; a single one stays what it is."""
    members = [fits.of(method) for method in weights]
    if len(members) == 1:
        return members[0]
    return Calibration(method=AVERAGE, members=tuple(members), weights=tuple(weights.values()))


def refit(calibration: Calibration, logits: Floats, targets: Floats) -> Calibration:
    """Fit a calibration anew on other rows: the same methods, and in an average the same weights."""
    members = calibration.members or (calibration,)
    weights = calibration.weights or (1.0,)
    return average(Fits(logits, targets), dict(zip((m.method for m in members), weights, strict=True)))


def _without_small(weights: Mapping[str, float]) -> dict[str, float]:
    large = {method: weight for method, weight in weights.items() if weight >= MIN_WEIGHT}
    total = sum(large.values())
    return {method: weight / total for method, weight in large.items()}
