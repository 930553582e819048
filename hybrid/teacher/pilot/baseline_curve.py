"""What the teacher is worth beside the labels at hand: TF-IDF on them, and what its answers add."""

from collections.abc import Sequence

import msgspec
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, cross_val_predict

from hybrid.evaluation.baseline import tfidf_predictions
from hybrid.evaluation.intervals import Estimate, lower_p, share_interval
from hybrid.label_sets import index_by_label
from hybrid.teacher.pilot.strategies import Said
from hybrid.types import Example, Row

FOLDS = 5
SMALLEST = 25
"""Rows at which the learning curve begins."""
SURE = 1e-6


class Point(Row, frozen=True, kw_only=True):
    """One point of the learning curve of TF-IDF."""

    rows: int
    accuracy: float


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """What the rows at hand give without a teacher, on the pilot's rows."""

    given: Estimate
    """How often the given label is the trusted one."""
    tfidf: Estimate
    """The accuracy of TF-IDF on all other training rows, trusted labels where there are any and given ones else."""
    rows: int
    """How many rows that is, in the mean over the folds."""
    curve: list[Point]
    given_right: np.ndarray
    tfidf_right: np.ndarray
    tfidf_agrees: np.ndarray
    """Where TF-IDF predicts the given label: booleans [n], as the two above."""


def baseline_of(
    train: Sequence[Example], trusted: dict[str, str], piloted: Sequence[Example], labels: Sequence[str], *, seed: int
) -> Baseline:
    """Return what TF-IDF and the given labels come to on the pilot's rows; a row never trains on itself."""
    place = index_by_label(labels)
    judged = {row.id for row in piloted}
    gold = np.array([place[trusted[row.id]] for row in piloted])
    given = np.array([place[row.label] for row in piloted])
    others = [row for row in train if row.id not in judged]
    known = [(row.text, place[trusted.get(row.id, row.label)]) for row in others]
    predicted, n_known = np.empty(len(piloted), dtype=int), []
    for fit, test in KFold(FOLDS, shuffle=True, random_state=seed).split(gold):
        # The pilot's own rows lend their trusted labels to each other, but for the fold that is judged.
        taught = known + [(piloted[i].text, int(gold[i])) for i in fit]
        predicted[test] = _predict(taught, [piloted[i].text for i in test])
        n_known.append(len(taught))
    return Baseline(
        given=share_interval(int((given == gold).sum()), len(gold)),
        tfidf=share_interval(int((predicted == gold).sum()), len(gold)),
        rows=round(float(np.mean(n_known))),
        curve=_curve(known, [row.text for row in piloted], gold, seed=seed),
        given_right=given == gold,
        tfidf_right=predicted == gold,
        tfidf_agrees=predicted == given,
    )


def worth_in_rows(accuracy: float, found: Baseline) -> int | None:
    """Return with about how many labelled rows TF-IDF is as accurate; None where all at hand are not enough.

    Read off the learning curve, which is made to rise, on a logarithmic scale of rows.
    """
    points = [*found.curve, Point(rows=found.rows, accuracy=found.tfidf.value)]
    reached = np.maximum.accumulate([point.accuracy for point in points])
    if accuracy > reached[-1]:
        return None
    after = int(np.searchsorted(reached, accuracy))
    if after == 0:
        return points[0].rows
    low, high = reached[after - 1], reached[after]
    way = (accuracy - low) / (high - low)
    rows = np.log(points[after - 1].rows) + way * (np.log(points[after].rows) - np.log(points[after - 1].rows))
    return round(float(np.exp(rows)))


def adds_information_p(said: Sequence[str | None], surety: np.ndarray, given: Sequence[str], found: Baseline) -> float:
    """Return the probability that the teacher's answers tell wrong given labels from right ones only by chance.

    Two logistic regressions predict, cross-fitted, whether a given label is right: one knows whether TF-IDF agrees
    with it, the other also whether the teacher does and how sure it is. A paired t test compares their losses.
    """
    right = found.given_right
    if min(right.sum(), (~right).sum()) < FOLDS:
        return 1.0
    agrees = np.array(
        [0.0 if label is None else 1.0 if label == own else -1.0 for label, own in zip(said, given, strict=True)]
    )
    sure = np.nan_to_num(surety, nan=0.5)
    known = found.tfidf_agrees.astype(float)[:, None]
    with_teacher = np.column_stack([known, agrees, agrees * sure])
    return lower_p(_losses(with_teacher, right), _losses(known, right))


def surety_of(said: Said) -> np.ndarray:
    """Return how sure a way is [n]: its vote share where several voted, else its stated confidence; nan if absent."""
    return np.where(np.isnan(said.share), said.confidence, said.share)


def _losses(features: np.ndarray, right: np.ndarray) -> np.ndarray:
    probs = cross_val_predict(
        LogisticRegression(), features, right, cv=KFold(FOLDS, shuffle=True, random_state=0), method="predict_proba"
    )
    return np.asarray(-np.log(np.maximum(probs[np.arange(len(right)), right.astype(int)], SURE)))


def _predict(known: Sequence[tuple[str, int]], texts: Sequence[str]) -> np.ndarray:
    targets = np.array([target for _, target in known])
    if len(np.unique(targets)) < 2:
        return np.full(len(texts), targets[0])
    return tfidf_predictions([text for text, _ in known], targets, texts)


def _curve(known: Sequence[tuple[str, int]], texts: Sequence[str], gold: np.ndarray, *, seed: int) -> list[Point]:
    """Return the accuracy with a half, a quarter, and so on of the rows, fewest first."""
    order = np.random.default_rng(seed).permutation(len(known))
    sizes, size = [], len(known) // 2
    while size >= SMALLEST:
        sizes.append(size)
        size //= 2
    found = [float((_predict([known[i] for i in order[:size]], texts) == gold).mean()) for size in sizes]
    return [
        Point(rows=size, accuracy=accuracy) for size, accuracy in zip(reversed(sizes), reversed(found), strict=True)
    ]
