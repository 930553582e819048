"""Calibrate: logits of the exported model to probabilities, and the point of escalation."""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize, minimize_scalar
from sklearn.isotonic import IsotonicRegression

from hybrid import metrics
from hybrid.config import CalibrateConfig
from hybrid.errors import DataError
from hybrid.escalation import choose_threshold, naive_threshold, say
from hybrid.runtime.calibration import Calibration, Knots, Method, Threshold, apply, softmax
from hybrid.types import Example, Scored

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

FROM_SIMPLE_TO_RICH: tuple[Method, ...] = ("temperature", "vector", "top_label", "isotonic")
QUANTILES = 16
"""Pieces of the function of the top label."""
BINS = 15
UNTRUSTED = (
    "The labels of the calibration rows are not gold: probabilities, accuracies and the promise of the threshold are "
    "about agreeing with the labels as given, and how often those are right cannot be known without gold."
)


class CrossFitted(msgspec.Struct, frozen=True, kw_only=True):
    """The chosen calibration, and what its method says of each row when fitted without that row's fold."""

    calibration: Calibration
    probs: Floats
    """[n, n_labels]; out of sample."""
    cv_nll: dict[str, float]
    """Cross-validated NLL of each method tried."""


class Calibrated(msgspec.Struct, frozen=True, kw_only=True):
    """What the bundle needs, the rows it was fitted on, and the figures for the report."""

    calibration: Calibration
    threshold: Threshold
    scored: list[Scored]
    report: dict[str, object]


def calibrate(
    rows: Sequence[Example],
    labels: Sequence[str],
    logits: npt.NDArray[np.float32] | Floats,
    config: CalibrateConfig,
    *,
    seed: int,
    trusted: bool,
) -> Calibrated:
    """Return calibration and threshold fitted on `rows` and the exported model's `logits` [n, n_labels].

    Each row's `label` is taken as the truth; `trusted` says whether it is gold. The figures called
    `after`, and the test of the threshold, use probabilities that were cross-fitted: each row's come from
    a fit that did not see it, so they are not flattered by the fit.

    Raises:
        DataError: logits and rows do not match, a label is not one of `labels`, or there are fewer rows than folds.
        BundleError: a logit is not finite.
    """
    gold = _gold_indices(rows, labels, logits, config)
    before = apply(Calibration(), logits)
    fitted = cross_fit(logits, gold, config.methods, folds=config.folds, seed=seed)
    confidence, correct = fitted.probs.max(axis=1), fitted.probs.argmax(axis=1) == gold
    threshold = choose_threshold(confidence, correct, target=config.target, delta=config.delta)
    naive = naive_threshold(confidence, correct, target=config.target, delta=config.delta)
    probs = apply(fitted.calibration, logits)
    scored = [
        Scored(id=row.id, label=row.label, logits=tuple(row_logits), probs=tuple(row_probs))
        for row, row_logits, row_probs in zip(rows, np.asarray(logits).tolist(), probs.tolist(), strict=True)
    ]
    null = metrics.ece_null(fitted.probs, seed=seed, bins=BINS)
    report: dict[str, object] = {
        "n_rows": len(rows),
        "trusted": trusted,
        "method": fitted.calibration.method,
        "temperature": fitted.calibration.temperature if fitted.calibration.method == "temperature" else None,
        "cv_nll": fitted.cv_nll,
        "before": _figures(before, gold),
        "after": _figures(fitted.probs, gold),
        "ece_null_mean": null.mean,
        "ece_null95": null.p95,
        "threshold": msgspec.to_builtins(threshold),
        "naive_threshold": msgspec.to_builtins(naive),
        "sentences": [say(threshold), *([] if trusted else [UNTRUSTED])],
    }
    return Calibrated(calibration=fitted.calibration, threshold=threshold, scored=scored, report=report)


def cross_fit(
    logits: npt.NDArray[np.float32] | Floats, gold: Indices, methods: Sequence[Method], *, folds: int, seed: int
) -> CrossFitted:
    """Return the method chosen by cross-validated NLL, fitted on all rows, and its out-of-sample probabilities.

    Folds are stratified on `gold` [n] and drawn with `seed`. The methods are compared from simple to rich
    (temperature, vector, top_label, isotonic): a richer one takes the place of the best so far only where its mean
    held-out NLL is lower by more than one standard error of the paired differences over rows, so that
    noise keeps the simpler one. This is the one-standard-error rule of Breiman et al. 1984 ("Classification
    and regression trees"), on paired differences because both methods see the same rows.
    """
    logits = np.asarray(logits, dtype=np.float64)
    fold = _stratified_folds(gold, folds, seed)
    tried = {method: _held_out(method, logits, gold, fold) for method in FROM_SIMPLE_TO_RICH if method in methods}
    losses = {method: metrics.nll_by_row(probs, gold) for method, probs in tried.items()}
    chosen, *richer = tried
    for method in richer:
        gain = losses[chosen] - losses[method]
        if gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)):
            chosen = method
    cv_nll: dict[str, float] = {method: float(loss.mean()) for method, loss in losses.items()}
    return CrossFitted(calibration=fit(chosen, logits, gold), probs=tried[chosen], cv_nll=cv_nll)


def fit(method: Method, logits: Floats, gold: Indices) -> Calibration:
    """Return the calibration of `method` with the lowest NLL (isotonic: squared error) on logits [n, k], gold [n]."""
    if method == "isotonic":
        return _fit_isotonic(logits, gold)
    temperature = _fit_temperature(logits, gold)
    if method == "temperature":
        return Calibration(method="temperature", temperature=temperature)
    vector = _fit_vector(logits, gold, temperature)
    return vector if method == "vector" else _fit_top_label(vector, logits, gold)


def _fit_temperature(logits: Floats, gold: Indices) -> float:
    """The NLL is convex in 1 / temperature, so a bounded search of its logarithm finds the one minimum."""
    found = minimize_scalar(
        lambda log_temperature: metrics.nll(softmax(logits / np.exp(log_temperature)), gold),
        bounds=(np.log(0.05), np.log(20.0)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def _fit_vector(logits: Floats, gold: Indices, temperature: float) -> Calibration:
    """Fit a scale and a bias a label, with a standard normal prior around the fitted temperature.

    Without the prior the bias of a label that a fold lacks would run to minus infinity.
    """
    n_rows, n_labels = logits.shape
    start = np.concatenate([np.full(n_labels, 1 / temperature), np.zeros(n_labels)])
    one_hot = np.eye(n_labels)[gold]

    def loss_and_gradient(weights: Floats) -> tuple[float, Floats]:
        probs = softmax(logits * weights[:n_labels] + weights[n_labels:])
        wrong = (probs - one_hot) / n_rows
        away = (weights - start) / n_rows
        gradient = np.concatenate([(wrong * logits).sum(axis=0), wrong.sum(axis=0)]) + away
        return metrics.nll(probs, gold) + 0.5 * float(away @ (weights - start)), gradient

    weights = minimize(loss_and_gradient, start, jac=True, method="L-BFGS-B").x.tolist()
    return Calibration(method="vector", scale=tuple(weights[:n_labels]), bias=tuple(weights[n_labels:]))


def _fit_top_label(vector: Calibration, logits: Floats, gold: Indices) -> Calibration:
    """Fit the top label's probability as a logistic function of its quantile among the calibration rows.

    A classifier trained on noisy labels crowds its confidences under a ceiling that no scaling of the
    logits spreads out; their order still tells right from wrong. The quantile has that order and no
    ceiling, and two parameters are all that is fitted (with a weak normal prior, so that a class of
    perfect rows stays finite).
    """
    probs = apply(vector, logits)
    confidence, correct = probs.max(axis=1), probs.argmax(axis=1) == gold
    x, first = np.unique(np.quantile(confidence, np.linspace(0, 1, QUANTILES + 1)), return_index=True)
    level = first / QUANTILES
    quantile = np.interp(confidence, x, level)
    sign = np.where(correct, -1.0, 1.0)

    def loss(weights: Floats) -> float:
        fit_of_rows = np.logaddexp(0, sign * (weights[0] + weights[1] * quantile)).mean()
        return float(fit_of_rows) + 0.01 * float(weights @ weights) / len(gold)

    intercept, slope = minimize(loss, np.array([0.0, 1.0])).x
    y = 1 / (1 + np.exp(-(intercept + slope * level)))
    knots = Knots(x=tuple(x.tolist()), y=tuple(y.tolist()))
    return msgspec.structs.replace(vector, method="top_label", knots=(knots,))


def _fit_isotonic(logits: Floats, gold: Indices) -> Calibration:
    """Fit one isotonic regression a label; the floor is Laplace's rule for an event never seen in n rows."""
    knots = []
    for label, column in enumerate(softmax(logits).T):
        model = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip").fit(column, gold == label)
        knots.append(Knots(x=tuple(model.X_thresholds_.tolist()), y=tuple(model.y_thresholds_.tolist())))
    return Calibration(method="isotonic", knots=tuple(knots), floor=1 / (len(gold) + 2))


def _held_out(method: Method, logits: Floats, gold: Indices, fold: Indices) -> Floats:
    probs = np.empty_like(logits)
    for index in np.unique(fold):
        out = fold == index
        probs[out] = apply(fit(method, logits[~out], gold[~out]), logits[out])
    return probs


def _stratified_folds(gold: Indices, folds: int, seed: int) -> Indices:
    """Return the fold of each row [n]: rows of a label are shuffled and dealt in turn.

    scikit-learn's splitter refuses a label with fewer rows than folds; a rare label must not stop a run.
    """
    order = np.lexsort((np.random.default_rng(seed).random(len(gold)), gold))
    fold = np.empty(len(gold), dtype=np.int64)
    fold[order] = np.arange(len(gold)) % folds
    return fold


def _figures(probs: Floats, gold: Indices) -> dict[str, float]:
    return {
        "ece": metrics.ece(probs, gold, BINS),
        "brier": metrics.brier(probs, gold),
        "nll": metrics.nll(probs, gold),
        "accuracy": metrics.accuracy(gold, probs.argmax(axis=1)),
    }


def _gold_indices(
    rows: Sequence[Example], labels: Sequence[str], logits: npt.NDArray[np.float32] | Floats, config: CalibrateConfig
) -> Indices:
    if np.shape(logits) != (len(rows), len(labels)):
        raise DataError(
            f"calibrate: logits of shape {np.shape(logits)} for {len(rows)} rows and {len(labels)} labels: "
            "want one logit a row and label; run again from export"
        )
    if len(rows) < config.folds:
        raise DataError(
            f"calibrate: {len(rows)} calibration rows for calibrate.folds = {config.folds}: want a row a fold at "
            "least; raise split.calibration or lower calibrate.folds"
        )
    place = {label: index for index, label in enumerate(labels)}
    unknown = next((row for row in rows if row.label not in place), None)
    if unknown is not None:
        raise DataError(
            f"calibrate: row {unknown.id!r} has the label {unknown.label!r}: want one of {', '.join(labels)}; "
            "correct the row or add the label to the recipe"
        )
    return np.array([place[row.label] for row in rows], dtype=np.int64)
