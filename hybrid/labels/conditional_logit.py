"""McFadden's conditional logit (1974): one weight per kind of evidence, shared by all labels.

A few trusted rows per label are too few to fit weights for each label, but all of them together suffice to learn how
much to trust each source.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

PENALTY = 1.0


def fit_weights(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Fit ridge-penalised weights [d] of the evidence `values` [m, k, d] for the labels `chosen` [m]."""
    rows = np.arange(len(chosen))
    values = values.astype(np.float64)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        log_probs = log_softmax(values @ weights, axis=1)
        expected = np.einsum("mkd,mk->d", values, np.exp(log_probs))
        gradient = expected - values[rows, chosen].sum(axis=0) + PENALTY * weights
        return -float(log_probs[rows, chosen].sum()) + PENALTY / 2 * float(weights @ weights), gradient

    return np.asarray(minimize(loss, np.zeros(values.shape[2]), jac=True, method="L-BFGS-B").x)


def log_probs_of(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Compute the log-probabilities of the labels [n, k]."""
    return np.asarray(log_softmax(values @ weights.astype(values.dtype), axis=1), dtype=np.float64)
