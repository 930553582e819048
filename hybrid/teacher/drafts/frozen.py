"""A classifier on frozen embeddings: logistic regression, for checks and trials that have to take seconds."""

from collections.abc import Iterator

import msgspec
import numpy as np
from sklearn.linear_model import LogisticRegression

from hybrid.data.folds import stratified_splitter
from hybrid.teacher.drafts.parents import Parents, written_without

FOLDS = 5


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Vectors [n, d], class indices [n] and weights [n] of the real training rows with decided labels, or of drafts."""

    vectors: np.ndarray
    targets: np.ndarray
    weights: np.ndarray


def fitted(batch: Batch, *, balanced: bool) -> LogisticRegression:
    """Fit logistic regression on a batch."""
    model = LogisticRegression(max_iter=1000, class_weight="balanced" if balanced else None)
    return model.fit(batch.vectors, batch.targets, sample_weight=batch.weights)


def predict(batch: Batch, vectors: np.ndarray, *, balanced: bool) -> np.ndarray:
    """Predict class indices [n]; without a rare class, a fold may hold a single class."""
    if len(np.unique(batch.targets)) == 1:
        return np.full(len(vectors), batch.targets[0])
    return np.asarray(fitted(batch, balanced=balanced).predict(vectors))


def cross_fitted_probs(batch: Batch, n_labels: int, *, seed: int) -> np.ndarray:
    """Return class probabilities [n, k] of the rows, each from a balanced regression that was not fitted on it."""
    probs = np.zeros((len(batch.targets), n_labels))
    for fit, held_out in folds(batch.targets, FOLDS, seed):
        part = Batch(vectors=batch.vectors[fit], targets=batch.targets[fit], weights=batch.weights[fit])
        classes = np.unique(part.targets)
        if len(classes) == 1:
            probs[held_out, classes[0]] = 1.0
            continue
        probs[np.ix_(held_out, classes)] = fitted(part, balanced=True).predict_proba(batch.vectors[held_out])
    return probs


def recall_at_own_count(
    real: Batch, drafts: Batch, judging: np.ndarray, label: int, n_labels: int, *, parents: Parents, seed: int
) -> float:
    """Return the recall of a class among as many held-out rows as it has, those with its highest probabilities.

    Also called R-precision. Unlike recall at the decision, it moves before a classifier that has seen few rows of the
    class decides for it at all. The rows judge by their `judging` labels [n]; in each fit are the drafts that have no
    parent among the rows that it scores.
    """
    own = judging == label
    if not own.any():
        return 0.0
    probs = np.zeros((len(real.targets), n_labels))
    for fit, held_out in folds(real.targets, FOLDS, seed):
        batch = joined(part_of(real, fit), part_of(drafts, written_without(parents, held_out)))
        classes = np.unique(batch.targets)
        if len(classes) > 1:
            model = fitted(batch, balanced=True)
            probs[np.ix_(held_out, model.classes_)] = model.predict_proba(real.vectors[held_out])
    highest = np.argsort(-probs[:, label], kind="stable")
    highest = highest[judging[highest] >= 0][: int(own.sum())]
    return float(own[highest].mean())


def part_of(batch: Batch, places: np.ndarray) -> Batch:
    """Return some rows of a batch, by their places or by truth values."""
    return Batch(vectors=batch.vectors[places], targets=batch.targets[places], weights=batch.weights[places])


def joined(left: Batch, right: Batch) -> Batch:
    """Return two batches as one; an empty one adds nothing, whatever its width."""
    if not len(right.targets):
        return left
    names = ("vectors", "targets", "weights")
    return Batch(**{name: np.concatenate([getattr(left, name), getattr(right, name)]) for name in names})


def folds(targets: np.ndarray, n_folds: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the indices of the rows to fit on and of those held out, fold by fold."""
    return iter(stratified_splitter(targets, n_folds, seed=seed).split(targets, targets))
