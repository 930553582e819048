"""What small models learn from the rows: cross-validation, a learning curve, and what further labels would be worth."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from cleanlab.count import num_label_issues
from scipy.stats import norm, t
from sklearn.linear_model import LogisticRegression

from hybrid.advise.measurements import CurvePoint, Learned, Noise
from hybrid.data.folds import stratified_folds
from hybrid.evaluation.baseline import tfidf_predictions
from hybrid.evaluation.intervals import Estimate, share_interval
from hybrid.labels.consensus import cross_fitted
from hybrid.progress import OnDone

Indices = npt.NDArray[np.int64]
FOLDS = 5
SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)
"""The parts of the training rows at which the learning curve is measured."""
LEAST_ERROR = 1e-3


class LabelledTexts(msgspec.Struct, frozen=True, kw_only=True):
    """Training rows for cross-validation. No test row is among them."""

    texts: Sequence[str]
    given: Indices
    """Class indices [n]."""
    trusted: Mapping[int, int]
    """The trusted class by the place of its row; it judges and never trains."""
    n_labels: int
    features: npt.NDArray[np.float32]
    """Frozen embeddings [n, d]."""
    seed: int


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """The figures, and the frozen encoder's out-of-fold predictions [n] for paired tests."""

    learned: Learned
    noise: Noise
    encoder_predictions: Indices


def learn(rows: LabelledTexts, counted: tuple[int, int], *, encoder: str, further: int, on_done: OnDone) -> Fitted:
    """Cross-validate TF-IDF and the frozen encoder.

    Args:
        rows: the rows that are measured.
        counted: of all rows with a trusted label outside the test part, how many have another given label; and their number.
        encoder: the encoder's name.
        further: how many further labels are valued.
        on_done: told how far the work is.
    """
    judged = np.array(sorted(rows.trusted)) if len(rows.trusted) >= FOLDS * 20 else np.arange(len(rows.texts))
    by_trusted = len(rows.trusted) >= FOLDS * 20
    truth = np.array([rows.trusted[i] for i in judged]) if by_trusted else rows.given
    tfidf, frozen = np.empty_like(rows.given), np.empty_like(rows.given)
    curves = []
    fold_of = stratified_folds(rows.given, FOLDS, rows.seed)
    for number in range(FOLDS):
        train, test = np.flatnonzero(fold_of != number), np.flatnonzero(fold_of == number)
        tfidf[test] = _tfidf(rows, train, test)
        right_at = {}
        order = np.random.default_rng(rows.seed + number).permutation(train)
        scored = np.isin(test, judged)
        for share in SHARES:
            part = order[: max(2, round(share * len(order)))]
            predicted = _regression(rows.features[part], rows.given[part], rows.features[test])
            at = np.searchsorted(judged, test[scored])
            right_at[len(part)] = float((predicted[scored] == truth[at]).mean()) if scored.any() else np.nan
        frozen[test] = predicted
        curves.append(right_at)
        on_done(number + 1, FOLDS + 1)
    learned = Learned(
        judged_by="trusted" if by_trusted else "given",
        judged=len(judged),
        majority=float(np.bincount(truth).max() / len(truth)),
        tfidf=_share(tfidf[judged] == truth),
        encoder=_share(frozen[judged] == truth),
        encoder_name=encoder,
        curve=_curve(curves),
        further=worth_of(curves, further),
    )
    noise = _noise(rows, counted)
    on_done(FOLDS + 1, FOLDS + 1)
    return Fitted(learned=learned, noise=noise, encoder_predictions=frozen)


def predict_others(rows: LabelledTexts, features: npt.NDArray[np.float32]) -> Indices:
    """What the frozen encoder, trained on all these rows, predicts for others [n]."""
    return _regression(rows.features, rows.given, features)


def worth_of(curves: Sequence[Mapping[int, float]], further: int) -> Estimate | None:
    """Estimate what `further` rows would add to the accuracy, with the 95 % interval over the folds.

    In each fold the error follows a power law of the rows (Hestness et al. 2017, "Deep learning scaling is predictable,
    empirically"), fitted on logarithms; it may not rise. None where the curve has too few points.
    """
    gains = []
    for curve in curves:
        points = [(n, max(1 - right, LEAST_ERROR)) for n, right in sorted(curve.items()) if not np.isnan(right)]
        if len(points) < 3:
            continue
        n_rows, errors = np.array(points).T
        slope = min(0.0, float(np.polyfit(np.log(n_rows), np.log(errors), 1)[0]))
        gains.append(float(errors[-1]) * (1 - ((n_rows[-1] + further) / n_rows[-1]) ** slope))
    if len(gains) < 2:
        return None
    mean, spread = float(np.mean(gains)), float(np.std(gains, ddof=1) / np.sqrt(len(gains)))
    half = float(t.ppf(0.975, len(gains) - 1)) * spread
    return Estimate(value=mean, low=max(0.0, mean - half), high=mean + half)


def signal_of(targets: Indices, predicted: Indices, n_labels: int) -> tuple[float, float]:
    """The mean recall over the labels that occur, and the p-value of "the labels tell nothing of the texts".

    The z test of a mean of independent shares: under the null hypothesis the mean recall of any classifier that has not
    seen a row's label is one divided by the number of labels, however uneven the labels are.
    """
    recalls, variances = [], []
    for label in range(n_labels):
        of_label = targets == label
        if not of_label.any():
            continue
        right = float((predicted[of_label] == label).mean())
        n = int(of_label.sum())
        smoothed = (right * n + 0.5) / (n + 1)
        recalls.append(right)
        variances.append(smoothed * (1 - smoothed) / n)
    n_seen = len(recalls)
    z = (np.mean(recalls) - 1 / n_seen) / (np.sqrt(np.sum(variances)) / n_seen)
    return float(np.mean(recalls)), float(norm.sf(z))


def _noise(rows: LabelledTexts, counted: tuple[int, int]) -> Noise:
    probs = cross_fitted(rows.features, rows.given, rows.n_labels, folds=FOLDS, seed=rows.seed)
    signal, p = signal_of(rows.given, probs.argmax(axis=1), rows.n_labels)
    n_wrong, n_counted = counted
    n_issues = int(num_label_issues(rows.given, probs, estimation_method="off_diagonal"))
    return Noise(
        estimated=n_issues / len(rows.given),
        counted=share_interval(n_wrong, n_counted) if n_counted else None,
        n_counted=n_counted,
        signal=signal,
        signal_p=p,
    )


def _tfidf(rows: LabelledTexts, train: Indices, test: Indices) -> Indices:
    targets = rows.given[train]
    if len(np.unique(targets)) < 2:
        return np.full(len(test), targets[0])
    return tfidf_predictions([rows.texts[i] for i in train], targets, [rows.texts[i] for i in test])


def _regression(features: npt.NDArray[np.float32], targets: Indices, unseen: npt.NDArray[np.float32]) -> Indices:
    if len(np.unique(targets)) < 2:
        return np.full(len(unseen), targets[0])
    model = LogisticRegression(C=10.0, max_iter=500)
    model.fit(features, targets)
    return np.asarray(model.predict(unseen))


def _share(right: npt.NDArray[np.bool_]) -> Estimate:
    return share_interval(int(right.sum()), len(right))


def _curve(curves: Sequence[Mapping[int, float]]) -> list[CurvePoint]:
    """The mean over the folds; their sizes may differ by a row."""
    points = [sorted(curve.items()) for curve in curves]
    return [
        CurvePoint(
            rows=round(float(np.mean([fold[step][0] for fold in points]))),
            accuracy=float(np.nanmean([fold[step][1] for fold in points])),
        )
        for step in range(min(len(fold) for fold in points))
    ]
