"""The pilot's baseline without a teacher: given labels and TF-IDF, and tests of what the teacher's answers add."""

from collections.abc import Sequence

import msgspec
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, cross_val_predict

from hybrid.evaluation.baseline import tfidf_predictions
from hybrid.evaluation.intervals import Estimate, lower_p, share_interval
from hybrid.label_sets import index_by_label
from hybrid.teacher.pilot.strategies import StrategyVotes
from hybrid.types import Example, Row

FOLDS = 5
SMALLEST = 25
"""The number of rows at the first point of the learning curve."""
MIN_PROBABILITY = 1e-6


class Point(Row, frozen=True, kw_only=True):
    """One point of the learning curve of TF-IDF."""

    rows: int
    accuracy: float


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """What the labelled rows give without a teacher, measured on the pilot's rows."""

    given: Estimate
    """The share of rows whose given label is the trusted one."""
    tfidf: Estimate
    """The accuracy of TF-IDF trained on all other training rows, with trusted labels where known, else given ones."""
    rows: int
    """The number of those training rows, averaged over the folds."""
    curve: list[Point]
    given_right: np.ndarray
    """A mask [n]: whether the given label is right."""
    tfidf_right: np.ndarray
    """A mask [n]: whether TF-IDF is right."""
    tfidf_agrees: np.ndarray
    """A mask [n]: whether TF-IDF predicts the given label."""


def baseline_of(
    train: Sequence[Example], trusted: dict[str, str], piloted: Sequence[Example], labels: Sequence[str], *, seed: int
) -> Baseline:
    """Measure the given labels and TF-IDF on the pilot's rows; no row is in its own training set."""
    index = index_by_label(labels)
    pilot_ids = {row.id for row in piloted}
    gold = np.array([index[trusted[row.id]] for row in piloted])
    given = np.array([index[row.label] for row in piloted])
    others = [row for row in train if row.id not in pilot_ids]
    labelled = [(row.text, index[trusted.get(row.id, row.label)]) for row in others]
    predicted, n_train = np.empty(len(piloted), dtype=int), []
    for fit, test in KFold(FOLDS, shuffle=True, random_state=seed).split(gold):
        # The pilot's other folds train with their trusted labels; the test fold does not.
        train_rows = labelled + [(piloted[i].text, int(gold[i])) for i in fit]
        predicted[test] = _predict(train_rows, [piloted[i].text for i in test])
        n_train.append(len(train_rows))
    return Baseline(
        given=share_interval(int((given == gold).sum()), len(gold)),
        tfidf=share_interval(int((predicted == gold).sum()), len(gold)),
        rows=round(float(np.mean(n_train))),
        curve=_curve(labelled, [row.text for row in piloted], gold, seed=seed),
        given_right=given == gold,
        tfidf_right=predicted == gold,
        tfidf_agrees=predicted == given,
    )


def equivalent_rows(accuracy: float, baseline: Baseline) -> int | None:
    """Estimate how many labelled rows TF-IDF needs to reach an accuracy; None if all available rows are not enough.

    Interpolates the monotone envelope of the learning curve, on a logarithmic scale of rows.
    """
    points = [*baseline.curve, Point(rows=baseline.rows, accuracy=baseline.tfidf.value)]
    envelope = np.maximum.accumulate([point.accuracy for point in points])
    if accuracy > envelope[-1]:
        return None
    after = int(np.searchsorted(envelope, accuracy))
    if after == 0:
        return points[0].rows
    low, high = envelope[after - 1], envelope[after]
    fraction = (accuracy - low) / (high - low)
    rows = np.log(points[after - 1].rows) + fraction * (np.log(points[after].rows) - np.log(points[after - 1].rows))
    return round(float(np.exp(rows)))


def adds_information_p(
    answers: Sequence[str | None], confidence: np.ndarray, given: Sequence[str], baseline: Baseline
) -> float:
    """Test whether the teacher's answers help to tell wrong given labels from right ones; return the p-value.

    Two cross-fitted logistic regressions predict whether a given label is right. The first knows whether TF-IDF agrees
    with the label; the second also knows whether the teacher agrees and how confident it is. A paired t test compares
    their losses.
    """
    right = baseline.given_right
    if min(right.sum(), (~right).sum()) < FOLDS:
        return 1.0
    agrees = np.array(
        [0.0 if label is None else 1.0 if label == own else -1.0 for label, own in zip(answers, given, strict=True)]
    )
    confidence = np.nan_to_num(confidence, nan=0.5)
    without_teacher = baseline.tfidf_agrees.astype(float)[:, None]
    with_teacher = np.column_stack([without_teacher, agrees, agrees * confidence])
    return lower_p(_losses(with_teacher, right), _losses(without_teacher, right))


def confidence_of(combined: StrategyVotes) -> np.ndarray:
    """The confidence of a strategy [n]: the vote share with several votes, else the stated confidence; nan if absent."""
    return np.where(np.isnan(combined.share), combined.confidence, combined.share)


def _losses(features: np.ndarray, right: np.ndarray) -> np.ndarray:
    probs = cross_val_predict(
        LogisticRegression(), features, right, cv=KFold(FOLDS, shuffle=True, random_state=0), method="predict_proba"
    )
    return np.asarray(-np.log(np.maximum(probs[np.arange(len(right)), right.astype(int)], MIN_PROBABILITY)))


def _predict(labelled: Sequence[tuple[str, int]], texts: Sequence[str]) -> np.ndarray:
    targets = np.array([target for _, target in labelled])
    if len(np.unique(targets)) < 2:
        return np.full(len(texts), targets[0])
    return tfidf_predictions([text for text, _ in labelled], targets, texts)


def _curve(labelled: Sequence[tuple[str, int]], texts: Sequence[str], gold: np.ndarray, *, seed: int) -> list[Point]:
    """Measure the accuracy with 1/2, 1/4, 1/8 ... of the rows, fewest first."""
    order = np.random.default_rng(seed).permutation(len(labelled))
    sizes, size = [], len(labelled) // 2
    while size >= SMALLEST:
        sizes.append(size)
        size //= 2
    accuracies = [float((_predict([labelled[i] for i in order[:size]], texts) == gold).mean()) for size in sizes]
    return [
        Point(rows=size, accuracy=accuracy)
        for size, accuracy in zip(reversed(sizes), reversed(accuracies), strict=True)
    ]
