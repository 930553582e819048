"""Softmax regression on soft targets, which scikit-learn's does not take: a row's label may be a distribution."""

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

ITERATIONS = 100
FREE = 1e-3
"""The penalty of the intercepts: next to none, so that rare labels stay rare."""


def fit_softmax(
    features: np.ndarray, targets: np.ndarray, *, penalty: float, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return coefficients [d + 1, k], the intercepts last, that minimise weighted cross-entropy + penalty/2 |W|^2.

    `features` are [n, d], `targets` probabilities [n, k], `weights` [n] (1 where absent).
    """
    inputs = _with_one(features)
    targets = targets.astype(np.float32) if weights is None else (targets * weights[:, None]).astype(np.float32)
    mass = targets.sum(axis=1, keepdims=True)
    strength = np.full((inputs.shape[1], 1), penalty, dtype=np.float32)
    strength[-1] = FREE
    shape = inputs.shape[1], targets.shape[1]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        matrix = flat.reshape(shape).astype(np.float32)
        log_probs = log_softmax(inputs @ matrix, axis=1)
        value = -float((targets * log_probs).sum()) + 0.5 * float((strength * matrix**2).sum())
        slope = inputs.T @ (np.exp(log_probs) * mass - targets) + strength * matrix
        return value, slope.ravel().astype(np.float64)

    # Steps in single precision: twice as fast, and labels are not known to the sixth digit.
    found = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS})
    return np.asarray(found.x.reshape(shape), dtype=np.float32)


def softmax_log_probs(coefficients: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Return the logarithms of the class probabilities, float32 [n, k]."""
    return np.asarray(log_softmax(_with_one(features) @ coefficients, axis=1), dtype=np.float32)


def out_of_fold(
    features: np.ndarray, targets: np.ndarray, folds: np.ndarray, *, penalty: float, weights: np.ndarray | None = None
) -> np.ndarray:
    """Return log-probabilities [n, k] of each row by the regression on the rows of the other folds.

    A row whose target is all zeros teaches nothing and is only answered.
    """
    taught = targets.any(axis=1)
    log_probs = np.zeros(targets.shape, dtype=np.float32)
    for fold in np.unique(folds):
        fit, ask = (folds != fold) & taught, folds == fold
        part = None if weights is None else weights[fit]
        found = fit_softmax(features[fit], targets[fit], penalty=penalty, weights=part)
        log_probs[ask] = softmax_log_probs(found, features[ask])
    return log_probs


def _with_one(features: np.ndarray) -> np.ndarray:
    return np.hstack([features, np.ones((len(features), 1))]).astype(np.float32)
