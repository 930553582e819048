"""Fits calibrations for texts with several labels: a probability and a cutoff per label, and the confidence in the set.

Shapes throughout: `logits` and `probs` are [n, k], and `gold` [n, k] is True where a row has a label.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from hybrid.calibration.calibrators import simplest
from hybrid.data.folds import stratified_folds
from hybrid.evaluation.set_metrics import nll_of_sets_by_row
from hybrid.runtime.calibration import Calibration, Decided, apply, decide, set_log_odds, sigmoid

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]

FROM_SIMPLE_TO_RICH: tuple[str, ...] = ("none", "temperature", "vector")
MIN_ROWS_FOR_OWN_CUTOFF = 10
"""Labels with fewer calibration rows share one cutoff, because so few rows cannot choose a good cutoff."""
MAX_NEWTON_STEPS = 60
SMALLEST_STEP = 1e-6
"""Newton's method ends when no weight changes by more."""


class CrossFittedSets(msgspec.Struct, frozen=True, kw_only=True):
    """The chosen calibration, and for each row the results of its method fitted without that row's fold."""

    calibration: Calibration
    probs: Floats
    """Probabilities [n, k], out of sample like all fields below."""
    decided: Decided
    cv_nll: dict[str, float]
    """The cross-validated NLL of each method that was tried, summed over the labels."""


def cross_fit_sets(
    logits: npt.NDArray[np.float32] | Floats,
    gold: Bools,
    classes: Indices,
    methods: Sequence[str],
    *,
    folds: int,
    seed: int,
    fits_confidence: bool = True,
) -> CrossFittedSets:
    """Choose a method by cross-validated NLL, fit it on all rows, and compute its out-of-sample results.

    Folds are stratified on `classes` [n] and drawn with `seed`. `simplest` compares none, temperature and vector
    (the latter two only where `methods` has them). Cutoffs and the confidence in the set are fitted on the
    out-of-sample probabilities; those of a row, on the rows of the other folds. Without `fits_confidence` the confidence
    stays the product over the labels, and only the cutoffs are fitted.
    """
    logits = np.asarray(logits, dtype=np.float64)
    fold = stratified_folds(classes, folds, seed)
    candidates = [method for method in FROM_SIMPLE_TO_RICH if method == "none" or method in methods]
    tried = {method: _out_of_sample(method, logits, gold, fold) for method in candidates}
    losses = {method: nll_of_sets_by_row(probs, gold) for method, probs in tried.items()}
    chosen = simplest(losses)
    probs = tried[chosen]
    return CrossFittedSets(
        calibration=fit_decisions(fit_labels(chosen, logits, gold), probs, gold, fits_confidence=fits_confidence),
        probs=probs,
        decided=_decided_out_of_sample(probs, gold, fold, fits_confidence=fits_confidence),
        cv_nll={method: float(loss.mean()) for method, loss in losses.items()},
    )


def fit_labels(method: str, logits: Floats, gold: Bools) -> Calibration:
    """Fit the calibration of the labels' probabilities with the lowest NLL; `method` is none, temperature or vector."""
    if method == "none":
        return Calibration(activation="sigmoid")
    scale = _fit_scale(logits, gold)
    if method == "temperature":
        return Calibration(activation="sigmoid", method="temperature", temperature=1 / scale)
    scales, biases = fit_platt(logits, gold, start=scale)
    return Calibration(activation="sigmoid", method="vector", scale=tuple(scales.tolist()), bias=tuple(biases.tolist()))


def fit_decisions(calibration: Calibration, probs: Floats, gold: Bools, *, fits_confidence: bool = True) -> Calibration:
    """Add cutoffs and, where `fits_confidence`, the confidence in the set to a calibration, fitted on `probs`."""
    with_cutoffs = msgspec.structs.replace(calibration, cutoffs=tuple(best_cutoffs(probs, gold).tolist()))
    if not fits_confidence:
        return with_cutoffs
    chosen = decide(with_cutoffs, probs).chosen
    correct = (chosen == gold).all(axis=1)
    scale, bias = fit_platt(set_log_odds(probs, chosen)[:, None], correct[:, None], start=1.0)
    return msgspec.structs.replace(with_cutoffs, set_scale=float(scale[0]), set_bias=float(bias[0]))


def best_cutoffs(probs: Floats, gold: Bools) -> Floats:
    """Find the cutoff of each label with the highest F1 on these rows [k]; 0.5 for a label that no row has.

    Labels with fewer rows than `MIN_ROWS_FOR_OWN_CUTOFF` share the cutoff with the highest F1 over all of their rows.
    """
    rare = gold.sum(axis=0) < MIN_ROWS_FOR_OWN_CUTOFF
    cutoffs = np.empty(gold.shape[1])
    cutoffs[~rare] = _f1_cutoffs(probs[:, ~rare], gold[:, ~rare])
    if rare.any():
        cutoffs[rare] = _f1_cutoffs(probs[:, rare].reshape(-1, 1), gold[:, rare].reshape(-1, 1))
    return cutoffs


def _f1_cutoffs(probs: Floats, gold: Bools) -> Floats:
    """Find the best cutoff of each column: half way between the last row that gets the label and the next row."""
    n_rows, n_columns = probs.shape
    order = np.argsort(-probs, axis=0, kind="stable")
    descending = np.take_along_axis(probs, order, axis=0)
    n_right = np.take_along_axis(gold, order, axis=0).cumsum(axis=0)
    f1 = 2 * n_right / (np.arange(1, n_rows + 1)[:, None] + gold.sum(axis=0))
    f1[:-1][descending[:-1] == descending[1:]] = -1  # a cutoff cannot separate rows of equal probability
    last = f1.argmax(axis=0)
    columns = np.arange(n_columns)
    next_prob = np.where(last + 1 < n_rows, descending[np.minimum(last + 1, n_rows - 1), columns], 0.0)
    return np.where(gold.any(axis=0), (descending[last, columns] + next_prob) / 2, 0.5)


def fit_platt(logits: Floats, gold: Bools, *, start: float) -> tuple[Floats, Floats]:
    """Fit scale [k] and bias [k] of each label's logits by lowest NLL: Platt 1999, "Probabilistic outputs".

    A standard normal prior around scale `start` and bias 0 keeps the weights of rare labels finite. Newton's method runs
    on all labels at once and halves a step that does not lower the loss, which is strictly convex.
    """
    weights = np.stack([np.full(logits.shape[1], start), np.zeros(logits.shape[1])])
    origin = weights.copy()
    loss, step = _platt_step(logits, gold, weights, origin)
    for _ in range(MAX_NEWTON_STEPS):
        trial = weights + step
        trial_loss, trial_step = _platt_step(logits, gold, trial, origin)
        better = trial_loss <= loss
        weights, step = np.where(better, trial, weights), np.where(better, trial_step, step / 2)
        loss = np.where(better, trial_loss, loss)
        if np.abs(step).max() < SMALLEST_STEP:
            break
    return weights[0], weights[1]


def _platt_step(logits: Floats, gold: Bools, weights: Floats, origin: Floats) -> tuple[Floats, Floats]:
    """Compute each label's loss [k] at the weights [2, k], and Newton's step from there [2, k]."""
    scaled = logits * weights[0] + weights[1]
    probs = sigmoid(scaled)
    offset = weights - origin
    loss = _losses(scaled, gold).sum(axis=0) + 0.5 * (offset**2).sum(axis=0)
    residuals = probs - gold
    gradient = np.stack([np.einsum("nk,nk->k", residuals, logits), residuals.sum(axis=0)]) + offset
    probs *= 1 - probs
    weighted = probs * logits
    h_scale, h_both, h_bias = np.einsum("nk,nk->k", weighted, logits) + 1, weighted.sum(axis=0), probs.sum(axis=0) + 1
    # The inverse of the 2 x 2 Hessian, written out.
    step = np.stack([h_both * gradient[1] - h_bias * gradient[0], h_both * gradient[0] - h_scale * gradient[1]])
    return loss, step / (h_scale * h_bias - h_both**2)


def _fit_scale(logits: Floats, gold: Bools) -> float:
    """Fit the common scale of all logits by lowest NLL, between 1/20 and 20, with Newton's method as above."""
    scale, step, loss = 1.0, 0.0, np.inf
    for _ in range(MAX_NEWTON_STEPS):
        trial = float(np.clip(scale + step, 0.05, 20.0))
        trial_loss = float(_losses(logits * trial, gold).sum())
        if trial_loss > loss:
            step = (trial - scale) / 2
        else:
            probs = sigmoid(logits * trial)
            gradient = float(((probs - gold) * logits).sum())
            hessian = float((probs * (1 - probs) * logits**2).sum())
            scale, loss, step = trial, trial_loss, -gradient / max(hessian, 1e-12)
        if abs(step) < SMALLEST_STEP or np.clip(scale + step, 0.05, 20.0) == scale:
            break
    return scale


def _losses(logits: Floats, gold: Bools) -> Floats:
    """Compute the negative log-likelihood of gold [n, k]; large logits do not overflow."""
    signed = np.where(gold, logits, -logits)
    return np.asarray(np.log1p(np.exp(-np.abs(signed))) - np.minimum(signed, 0), dtype=np.float64)


def _out_of_sample(method: str, logits: Floats, gold: Bools, fold: Indices) -> Floats:
    probs = np.empty_like(logits)
    for index in np.unique(fold):
        held_out = fold == index
        probs[held_out] = apply(fit_labels(method, logits[~held_out], gold[~held_out]), logits[held_out])
    return probs


def _decided_out_of_sample(probs: Floats, gold: Bools, fold: Indices, *, fits_confidence: bool) -> Decided:
    """Decide each row by the cutoffs and the confidence that are fitted on the other folds."""
    chosen, confidence = np.empty_like(gold), np.empty(len(gold))
    for index in np.unique(fold):
        held_out = fold == index
        plain = Calibration(activation="sigmoid")
        fitted = fit_decisions(plain, probs[~held_out], gold[~held_out], fits_confidence=fits_confidence)
        decided = decide(fitted, probs[held_out])
        chosen[held_out], confidence[held_out] = decided.chosen, decided.confidence
    return Decided(chosen=chosen, confidence=confidence)
