"""Softmax regression on soft targets (a row's label may be a distribution), which scikit-learn does not offer."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

ITERATIONS = 100
INTERCEPT_PENALTY = 1e-3
"""The ridge penalty of the intercepts: almost none, so that rare labels stay rare."""


def fit_softmax(
    features: np.ndarray, targets: np.ndarray, *, penalty: float, weights: np.ndarray | None = None
) -> np.ndarray:
    """Fit coefficients [d + 1, k], the intercepts last, that minimise weighted cross-entropy + penalty/2 |W|^2.

    `features` is [n, d], `targets` holds probabilities [n, k], `weights` [n] defaults to 1.
    """
    inputs = _with_intercept(features)
    targets = targets.astype(np.float32) if weights is None else (targets * weights[:, None]).astype(np.float32)
    mass = targets.sum(axis=1, keepdims=True)
    penalties = np.full((inputs.shape[1], 1), penalty, dtype=np.float32)
    penalties[-1] = INTERCEPT_PENALTY
    shape = inputs.shape[1], targets.shape[1]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        matrix = flat.reshape(shape).astype(np.float32)
        log_probs = log_softmax(inputs @ matrix, axis=1)
        value = -float((targets * log_probs).sum()) + 0.5 * float((penalties * matrix**2).sum())
        gradient = inputs.T @ (np.exp(log_probs) * mass - targets) + penalties * matrix
        return value, gradient.ravel().astype(np.float64)

    # Single precision is twice as fast, and accurate enough for noisy labels.
    result = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS})
    return np.asarray(result.x.reshape(shape), dtype=np.float32)


def softmax_log_probs(coefficients: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Compute the log-probabilities of the classes, float32 [n, k]."""
    return np.asarray(log_softmax(_with_intercept(features) @ coefficients, axis=1), dtype=np.float32)


def out_of_fold(
    features: np.ndarray, targets: np.ndarray, folds: np.ndarray, *, penalty: float, weights: np.ndarray | None = None
) -> np.ndarray:
    """Predict log-probabilities [n, k] of each row with a regression fitted on the other folds.

    A row whose target is all zeros is predicted but not used for fitting.
    """
    has_target = targets.any(axis=1)
    log_probs = np.zeros(targets.shape, dtype=np.float32)
    for fold in np.unique(folds):
        fit, held_out = (folds != fold) & has_target, folds == fold
        fit_weights = None if weights is None else weights[fit]
        coefficients = fit_softmax(features[fit], targets[fit], penalty=penalty, weights=fit_weights)
        log_probs[held_out] = softmax_log_probs(coefficients, features[held_out])
    return log_probs


def _with_intercept(features: np.ndarray) -> np.ndarray:
    ones = np.ones((len(features), 1), dtype=np.float32)
    return np.hstack([features.astype(np.float32, copy=False), ones])
