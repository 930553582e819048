"""The calibration error that a calibrator fitted on so few rows shows even where its form is right.

`metrics.ece_null` is the limit of perfect probabilities, which no calibrator fitted on a few hundred rows can have. Here the
calibrated probabilities are taken for the truth: labels of as many calibration rows are drawn from them, the calibrator is
fitted anew on those, and its error is measured on test rows with drawn labels. What exceeds the 95th percentile of that is
not the noise of fitting and judging: the calibrator's form is wrong, or the test rows differ from the calibration rows.
This is the parametric bootstrap (Efron and Tibshirani 1993, chapter 6).

Of an average it is a rough limit: an average keeps a share of the encoder's own probabilities, so that it is not quite of
the right form itself, and its error exceeds the limit in about one draw of three with 150 calibration rows
(`tests/test_refitted_limit.py`), not in one of twenty.
"""

import msgspec
import numpy as np
import numpy.typing as npt

from hybrid.calibration.averaging import refit
from hybrid.calibration.label_calibrators import fit_platt
from hybrid.evaluation.metrics import NullEce, ece_of_confidence
from hybrid.runtime.calibration import Calibration, apply, decide, set_log_odds

Floats = npt.NDArray[np.float64]
Logits = npt.NDArray[np.float32] | Floats

DRAWS = 100
FEWEST_DRAWS = 40
FULL_DRAWS = 50_000
"""Calibration logits, rows by labels, up to which there are all `DRAWS` draws; with more, in proportion fewer."""


def refitted_ece(calibration: Calibration, logits: Logits, test_logits: Logits, *, seed: int) -> NullEce:
    """Compute mean and 95th percentile of the ECE on test rows of a calibrator refitted on drawn labels.

    `logits` [n, k] are those of the calibration rows, `test_logits` [m, k] those of the test rows.
    """
    if calibration.activation == "sigmoid":
        return _refitted_ece_of_sets(calibration, logits, test_logits, seed=seed)
    rng = np.random.default_rng(seed)
    logits, test_logits = np.asarray(logits, dtype=np.float64), np.asarray(test_logits, dtype=np.float64)
    probs, test_probs = apply(calibration, logits), apply(calibration, test_logits)
    one_hot = np.eye(probs.shape[1])
    values = []
    for _ in range(_n_draws(logits)):
        refitted = apply(refit(calibration, logits, one_hot[_drawn(probs, rng)]), test_logits)
        correct = refitted.argmax(axis=1) == _drawn(test_probs, rng)
        values.append(ece_of_confidence(refitted.max(axis=1), correct))
    return _summary(values)


def _refitted_ece_of_sets(calibration: Calibration, logits: Logits, test_logits: Logits, *, seed: int) -> NullEce:
    """Do the same for the confidence in whole sets: whether a set is right is drawn, and the two weights are refitted."""
    rng = np.random.default_rng(seed)
    probs, test_probs = apply(calibration, np.asarray(logits)), apply(calibration, np.asarray(test_logits))
    decided, test_decided = decide(calibration, probs), decide(calibration, test_probs)
    log_odds = set_log_odds(probs, decided.chosen)[:, None]
    values = []
    for _ in range(DRAWS):
        correct = rng.random(len(log_odds)) < decided.confidence
        scale, bias = fit_platt(log_odds, correct[:, None], start=1.0)
        refitted = msgspec.structs.replace(calibration, set_scale=float(scale[0]), set_bias=float(bias[0]))
        test_correct = rng.random(len(test_probs)) < test_decided.confidence
        values.append(ece_of_confidence(decide(refitted, test_probs).confidence, test_correct))
    return _summary(values)


def _n_draws(logits: Floats) -> int:
    return max(FEWEST_DRAWS, min(DRAWS, DRAWS * FULL_DRAWS // logits.size))


def _drawn(probs: Floats, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Draw a label for each row from its probabilities [n, k]."""
    below = probs.cumsum(axis=1) < rng.random((len(probs), 1))
    return np.asarray(np.minimum(below.sum(axis=1), probs.shape[1] - 1))


def _summary(values: list[float]) -> NullEce:
    return NullEce(mean=float(np.mean(values)), p95=float(np.quantile(values, 0.95)))
