"""Fits the calibration of one set of rows, for one label a text or several, with the figures before and after."""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from hybrid.calibration.averaging import cross_fit
from hybrid.calibration.calibrators import cross_entropy_by_row
from hybrid.calibration.estimated_labels import EstimatedLabels
from hybrid.calibration.label_calibrators import cross_fit_sets
from hybrid.config import CalibrateConfig
from hybrid.evaluation import metrics, set_metrics
from hybrid.label_sets import rarest_labels
from hybrid.runtime.calibration import Calibration, Decided, apply, decide
from hybrid.types import Example

Floats = npt.NDArray[np.float64]
Logits = npt.NDArray[np.float32] | Floats

BINS = 15


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """The calibration that was chosen, and its out-of-sample results on the rows."""

    calibration: Calibration
    probs: Floats
    confidence: Floats
    correct: Floats
    """The probability [n] that each answer is right; 0 or 1 where the row has gold."""
    cv_nll: dict[str, float]
    weights: dict[str, float]
    before: dict[str, float]
    after: dict[str, float]
    null: metrics.NullEce


def fit_single(estimated: EstimatedLabels, logits: Logits, config: CalibrateConfig, *, seed: int) -> Fit:
    """Fit the average of the recipe's methods to rows with one label each; none where nothing is known but labels as given."""
    before = apply(Calibration(), logits)
    methods = config.methods if estimated.calibrates else ()
    fitted = cross_fit(logits, estimated.targets, methods, folds=config.folds, seed=seed)
    return Fit(
        calibration=fitted.calibration,
        probs=fitted.probs,
        confidence=fitted.probs.max(axis=1),
        correct=estimated.correct(fitted.probs.argmax(axis=1)),
        cv_nll=fitted.cv_nll,
        weights=fitted.weights,
        before=_figures(before, estimated.targets),
        after=_figures(fitted.probs, estimated.targets),
        null=metrics.ece_null(fitted.probs, seed=seed, bins=BINS),
    )


def fit_sets(
    rows: Sequence[Example],
    estimated: EstimatedLabels,
    logits: Logits,
    config: CalibrateConfig,
    *,
    seed: int,
) -> Fit:
    """Do the same for rows with any number of labels."""
    gold = estimated.targets > 0
    classes = np.unique(rarest_labels([row.label for row in rows]), return_inverse=True)[1]
    plain = Calibration(activation="sigmoid")
    before = apply(plain, logits)
    fitted = cross_fit_sets(
        logits,
        gold,
        classes,
        config.methods if estimated.calibrates else (),
        folds=config.folds,
        seed=seed,
        fits_confidence=estimated.calibrates,
    )
    return Fit(
        calibration=fitted.calibration,
        probs=fitted.probs,
        confidence=fitted.decided.confidence,
        correct=(fitted.decided.chosen == gold).all(axis=1).astype(np.float64),
        cv_nll=fitted.cv_nll,
        weights={fitted.calibration.method: 1.0},
        before=_figures_of_sets(before, decide(plain, before), gold),
        after=_figures_of_sets(fitted.probs, fitted.decided, gold),
        null=metrics.ece_null(fitted.decided.confidence[:, None], seed=seed, bins=BINS),
    )


def _figures(probs: Floats, targets: Floats) -> dict[str, float]:
    """Return the figures of probabilities [n, k] against labels of which the probability [n, k] is known."""
    correct = targets[np.arange(len(probs)), probs.argmax(axis=1)]
    return {
        "ece": metrics.ece_of_confidence(probs.max(axis=1), correct, BINS),
        "brier": float((probs**2 - 2 * targets * probs + targets).sum(axis=1).mean()),
        "nll": float(cross_entropy_by_row(probs, targets).mean()),
        "accuracy": float(correct.mean()),
    }


def _figures_of_sets(probs: Floats, decided: Decided, gold: npt.NDArray[np.bool_]) -> dict[str, float]:
    """Return the same figures for whole sets: ECE and accuracy of the set, Brier and NLL summed over the labels."""
    correct = (decided.chosen == gold).all(axis=1)
    return {
        "ece": metrics.ece_of_confidence(decided.confidence, correct, BINS),
        "brier": set_metrics.brier_of_sets(probs, gold),
        "nll": float(set_metrics.nll_of_sets_by_row(probs, gold).mean()),
        "accuracy": float(correct.mean()),
    }
