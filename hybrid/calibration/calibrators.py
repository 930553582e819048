"""Fits calibrations for texts with one label: `FITS` has a fit for each method of `hybrid.runtime.calibration`."""

from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize, minimize_scalar
from sklearn.isotonic import IsotonicRegression

from hybrid.data.folds import stratified_folds
from hybrid.evaluation import metrics
from hybrid.runtime.calibration import Calibration, Knots, apply, softmax

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

QUANTILES = 16
"""The number of pieces of the top label's function."""


class CrossFitted(msgspec.Struct, frozen=True, kw_only=True):
    """The chosen calibration, and each row's probabilities from a fit of its method without that row's fold."""

    calibration: Calibration
    probs: Floats
    """[n, n_labels]; out of sample."""
    cv_nll: dict[str, float]
    """The cross-validated NLL of each method tried."""


class Fits:
    """The calibrations of one set of rows. Each method is fitted once, when it is first needed."""

    def __init__(self, logits: Floats, gold: Indices) -> None:
        """Fit on logits [n, k] and the index of each row's label [n]."""
        self.logits = logits
        self.gold = gold
        self._fitted: dict[str, Calibration] = {}

    def of(self, method: str) -> Calibration:
        """Fit a method, a key of `FITS`: its calibration with the lowest NLL (isotonic: squared error) on the rows."""
        if method not in self._fitted:
            self._fitted[method] = FITS[method](self)
        return self._fitted[method]


def cross_fit(
    logits: npt.NDArray[np.float32] | Floats, gold: Indices, methods: Sequence[str], *, folds: int, seed: int
) -> CrossFitted:
    """Choose a method by cross-validated NLL, fit it on all rows, and give every row a probability out of sample.

    Folds are stratified on `gold` [n] and drawn with `seed`. `simplest` compares the `methods` from simple to rich,
    in the order of `FITS`.
    """
    logits = np.asarray(logits, dtype=np.float64)
    tried = {method: np.empty_like(logits) for method in FITS if method in methods}
    fold = stratified_folds(gold, folds, seed)
    for index in np.unique(fold):
        held_out = fold == index
        fits = Fits(logits[~held_out], gold[~held_out])
        for method, probs in tried.items():
            probs[held_out] = apply(fits.of(method), logits[held_out])
    losses = {method: metrics.nll_by_row(probs, gold) for method, probs in tried.items()}
    chosen = simplest(losses)
    cv_nll = {method: float(loss.mean()) for method, loss in losses.items()}
    return CrossFitted(calibration=Fits(logits, gold).of(chosen), probs=tried[chosen], cv_nll=cv_nll)


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


def _fit_temperature(fits: Fits) -> Calibration:
    """Fit the temperature. The NLL is convex in its inverse, so a bounded search of its logarithm finds the minimum."""
    best = minimize_scalar(
        lambda log_temperature: metrics.nll(softmax(fits.logits / np.exp(log_temperature)), fits.gold),
        bounds=(np.log(0.05), np.log(20.0)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return Calibration(method="temperature", temperature=float(np.exp(best.x)))


def _fit_vector(fits: Fits) -> Calibration:
    """Fit a scale and a bias a label, with a standard normal prior around the fitted temperature.

    Without the prior the bias of a label that a fold lacks would diverge to minus infinity.
    """
    logits, gold = fits.logits, fits.gold
    n_rows, n_labels = logits.shape
    start = np.concatenate([np.full(n_labels, 1 / fits.of("temperature").temperature), np.zeros(n_labels)])
    rows = np.arange(n_rows)

    def loss_and_gradient(weights: Floats) -> tuple[float, Floats]:
        probs = softmax(logits * weights[:n_labels] + weights[n_labels:])
        nll = metrics.nll(probs, gold)
        residuals = probs
        residuals[rows, gold] -= 1
        residuals /= n_rows
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
    vector, gold = fits.of("vector"), fits.gold
    probs = apply(vector, fits.logits)
    confidence, correct = probs.max(axis=1), probs.argmax(axis=1) == gold
    x, first = np.unique(np.quantile(confidence, np.linspace(0, 1, QUANTILES + 1)), return_index=True)
    level = first / QUANTILES
    quantile = np.interp(confidence, x, level)
    sign = np.where(correct, -1.0, 1.0)

    def loss(weights: Floats) -> float:
        nll = np.logaddexp(0, sign * (weights[0] + weights[1] * quantile)).mean()
        return float(nll) + 0.01 * float(weights @ weights) / len(gold)

    intercept, slope = minimize(loss, np.array([0.0, 1.0])).x
    y = 1 / (1 + np.exp(-(intercept + slope * level)))
    knots = Knots(x=tuple(x.tolist()), y=tuple(y.tolist()))
    return msgspec.structs.replace(vector, method="top_label", knots=(knots,))


def _fit_isotonic(fits: Fits) -> Calibration:
    """Fit one isotonic regression a label; the floor is Laplace's rule for an event never seen in n rows."""
    knots = []
    for label, column in enumerate(softmax(fits.logits).T):
        model = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(column, fits.gold == label)
        knots.append(Knots(x=tuple(model.X_thresholds_.tolist()), y=tuple(model.y_thresholds_.tolist())))
    return Calibration(method="isotonic", knots=tuple(knots), floor=1 / (len(fits.gold) + 2))


FITS: dict[str, Callable[[Fits], Calibration]] = {
    "temperature": _fit_temperature,
    "vector": _fit_vector,
    "top_label": _fit_top_label,
    "isotonic": _fit_isotonic,
}
"""The fit of each method, from simple to rich: every key of `hybrid.runtime.calibration.CALIBRATORS` except none."""
