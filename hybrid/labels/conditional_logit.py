"""One weight a kind of evidence, the same for every label: McFadden's conditional logit (1974).

With few trusted rows and many labels nothing richer can be learned: five rows a label say little about that label,
and all of them together say much about how far to believe a source.
"""

import numpy as np
from scipy.optimize import minimize
from scipy.special import log_softmax

PENALTY = 1.0


def fit_weights(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return weights [d] with which evidence `values` [m, k, d] speaks for the labels `chosen` [m], ridge-penalised."""
    rows = np.arange(len(chosen))
    values = values.astype(np.float64)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        log_probs = log_softmax(values @ weights, axis=1)
        expected = np.einsum("mkd,mk->d", values, np.exp(log_probs))
        slope = expected - values[rows, chosen].sum(axis=0) + PENALTY * weights
        return -float(log_probs[rows, chosen].sum()) + PENALTY / 2 * float(weights @ weights), slope

    return np.asarray(minimize(loss, np.zeros(values.shape[2]), jac=True, method="L-BFGS-B").x)


def log_probs_of(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the logarithms of the label probabilities [n, k]."""
    return np.asarray(log_softmax(values @ weights.astype(values.dtype), axis=1), dtype=np.float64)
