"""Fits calibrations for texts with one label: `FITS` has a fit for each method of `hybrid.runtime.calibration`."""

from collections.abc import Callable, Mapping

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize, minimize_scalar
from sklearn.isotonic import IsotonicRegression

from hybrid.evaluation.metrics import NLL_FLOOR
from hybrid.runtime.calibration import Calibration, Knots, apply, softmax

Floats = npt.NDArray[np.float64]

QUANTILES = 16
"""The number of pieces of the top label's function."""


class Fits:
    """The calibrations of one set of rows. Each method is fitted once, when it is first needed."""

    def __init__(self, logits: Floats, targets: Floats) -> None:
        """Fit on logits [n, k] and the probability of each row's labels [n, k]: one-hot where the label is known."""
        self.logits = logits
        self.targets = targets
        self._fitted: dict[str, Calibration] = {}

    def of(self, method: str) -> Calibration:
        """Fit a method, a key of `FITS` or none: its calibration with the lowest NLL (isotonic: squared error) on the rows."""
        if method == "none":
            return Calibration()
        if method not in self._fitted:
            self._fitted[method] = FITS[method](self)
        return self._fitted[method]


def simplest(losses: Mapping[str, Floats]) -> str:
    """Choose a method by the held-out losses [n] of each, given in order from simple to rich.

    A richer method replaces the best so far only if its mean loss is lower by more than one standard error of the
    paired differences over rows, so that noise favours the simpler method. This is the one-standard-error
    rule of Breiman et al. 1984 ("Classification and regression trees"), on paired differences because both methods
    see the same rows.
    """
    chosen, *richer = losses
    for method in richer:
        gain = losses[chosen] - losses[method]
        if gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)):
            chosen = method
    return chosen


def cross_entropy_by_row(probs: Floats, targets: Floats) -> Floats:
    """Compute the cross-entropy of each row's targets [n, k] in nats [n]: with one-hot targets, its NLL."""
    return np.asarray(-(targets * np.log(np.maximum(probs, NLL_FLOOR))).sum(axis=1))


def _nll(probs: Floats, targets: Floats) -> float:
    return float(cross_entropy_by_row(probs, targets).mean())


def _fit_temperature(fits: Fits) -> Calibration:
    """Fit the temperature. The NLL is convex in its inverse, so a bounded search of its logarithm finds the minimum."""
    best = minimize_scalar(
        lambda log_temperature: _nll(softmax(fits.logits / np.exp(log_temperature)), fits.targets),
        bounds=(np.log(0.05), np.log(20.0)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return Calibration(method="temperature", temperature=float(np.exp(best.x)))


def _fit_vector(fits: Fits) -> Calibration:
    """Fit a scale and a bias a label, with a standard normal prior around the fitted temperature.

    Without the prior the bias of a label that a fold lacks would diverge to minus infinity.
    """
    logits, targets = fits.logits, fits.targets
    n_rows, n_labels = logits.shape
    start = np.concatenate([np.full(n_labels, 1 / fits.of("temperature").temperature), np.zeros(n_labels)])

    def loss_and_gradient(weights: Floats) -> tuple[float, Floats]:
        probs = softmax(logits * weights[:n_labels] + weights[n_labels:])
        nll = _nll(probs, targets)
        residuals = (probs - targets) / n_rows
        bias_gradient = residuals.sum(axis=0)
        residuals *= logits
        prior_gradient = (weights - start) / n_rows
        gradient = np.concatenate([residuals.sum(axis=0), bias_gradient]) + prior_gradient
        return nll + 0.5 * float(prior_gradient @ (weights - start)), gradient

    weights = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B").x.tolist()
    return Calibration(method="vector", scale=tuple(weights[:n_labels]), bias=tuple(weights[n_labels:]))


def _fit_top_label(fits: Fits) -> Calibration:
    """Fit the top label's probability as a logistic function of its quantile among the calibration rows.

    The confidences of a classifier trained on noisy labels crowd below a ceiling, and scaling the logits cannot spread
    them out, but their order still separates right from wrong. The quantile keeps the order without the ceiling. Only
    two parameters are fitted, with a weak normal prior, so that they stay finite even if every row is right.
    """
    vector = fits.of("vector")
    probs = apply(vector, fits.logits)
    confidence, correct = probs.max(axis=1), fits.targets[np.arange(len(probs)), probs.argmax(axis=1)]
    x, first = np.unique(np.quantile(confidence, np.linspace(0, 1, QUANTILES + 1)), return_index=True)
    level = first / QUANTILES
    quantile = np.interp(confidence, x, level)

    def loss(weights: Floats) -> float:
        log_odds = weights[0] + weights[1] * quantile
        nll = (correct * np.logaddexp(0, -log_odds) + (1 - correct) * np.logaddexp(0, log_odds)).mean()
        return float(nll) + 0.01 * float(weights @ weights) / len(correct)

    intercept, slope = minimize(loss, np.array([0.0, 1.0])).x
    y = 1 / (1 + np.exp(-(intercept + slope * level)))
    knots = Knots(x=tuple(x.tolist()), y=tuple(y.tolist()))
    return msgspec.structs.replace(vector, method="top_label", knots=(knots,))


def _fit_isotonic(fits: Fits) -> Calibration:
    """Fit one isotonic regression a label; the floor is Laplace's rule for an event never seen in n rows."""
    knots = []
    for label, column in enumerate(softmax(fits.logits).T):
        model = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(column, fits.targets[:, label])
        knots.append(Knots(x=tuple(model.X_thresholds_.tolist()), y=tuple(model.y_thresholds_.tolist())))
    return Calibration(method="isotonic", knots=tuple(knots), floor=1 / (len(fits.targets) + 2))


FITS: dict[str, Callable[[Fits], Calibration]] = {
    "temperature": _fit_temperature,
    "vector": _fit_vector,
    "top_label": _fit_top_label,
    "isotonic": _fit_isotonic,
}
"""The fit of each method, from simple to rich: every key of `hybrid.runtime.calibration.CALIBRATORS` that a recipe
may name."""
