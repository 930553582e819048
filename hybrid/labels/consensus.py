"""The consensus of all sources, without trusted labels: CROWDLAB, or the given label if it is the only source."""

from collections.abc import Sequence

import msgspec
import numpy as np
import pandas as pd
from cleanlab.multiannotator import get_label_quality_multiannotator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from hybrid.data.folds import stratified_splitter
from hybrid.labels.estimate import LabelEstimate
from hybrid.labels.sources import ABSTAIN, LabelSource

MIN_RELATIVE_RELIABILITY = 0.5
"""Agreement with the classifier above chance, relative to that of the given labels. Sources below it made CROWDLAB's
labels worse (`benchmarks/local_teacher.py`)."""


def consensus(
    sources: Sequence[LabelSource], given: np.ndarray, quality_given: np.ndarray, probs: np.ndarray
) -> LabelEstimate:
    """Combine the sources and the classifier's out-of-sample `probs` [n, k].

    CROWDLAB (Goh et al. 2022) weights the sources; unreliable votes are left out. If no row has two sources there is no
    consensus to form: the given label stays, and its quality is the classifier's probability of it.
    """
    weak = tuple(source.name for source in sources if _is_weak(source, given, probs))
    weighed = [source for source in sources if source.name not in weak]
    n_labels = np.sum([source.has_label for source in weighed], axis=0)
    estimate = _crowdlab(weighed, probs) if n_labels.max() > 1 else _confident_learning(given, quality_given, probs)
    weights = estimate.weights | dict.fromkeys(weak, 0.0)
    return msgspec.structs.replace(estimate, weights=weights, ignored_sources=weak)


def cross_fitted(features: np.ndarray, targets: np.ndarray, n_labels: int, *, folds: int, seed: int) -> np.ndarray:
    """Estimate out-of-sample class probabilities, shape [n, n_labels], by balanced logistic regression."""
    model = LogisticRegression(max_iter=1000, class_weight="balanced")
    splitter = stratified_splitter(targets, folds, seed=seed)
    probs = np.full((len(targets), n_labels), 1e-9)
    probs[:, np.unique(targets)] = cross_val_predict(model, features, targets, cv=splitter, method="predict_proba")
    return np.asarray(probs / probs.sum(axis=1, keepdims=True))


def _is_weak(source: LabelSource, given: np.ndarray, probs: np.ndarray) -> bool:
    """Whether votes are significantly below `MIN_RELATIVE_RELIABILITY` times the reliability of the given labels.

    CROWDLAB cannot tell which of two sources is worse: it weights both by their agreement, and if they seldom agree it
    follows the classifier, which may be worse than either. Their agreement with the classifier can tell: two sources with
    independent errors agree above chance as often as the product of their reliabilities (Platanios et al. 2014), so
    the agreements of two sources with a third have the ratio of their reliabilities.
    """
    if not source.is_vote or not source.has_label.any():
        return False
    rows, chance = source.has_label, 1 / probs.shape[1]
    predicted = probs[rows].argmax(axis=1)
    of_votes, of_given = ((labels[rows] == predicted) - chance for labels in (source.label, given))
    shortfall = MIN_RELATIVE_RELIABILITY * of_given - of_votes
    return bool(shortfall.mean() > shortfall.std() / np.sqrt(len(shortfall)))


def _crowdlab(sources: Sequence[LabelSource], probs: np.ndarray) -> LabelEstimate:
    label_table = pd.DataFrame({s.name: np.where(s.has_label, s.label, np.nan) for s in sources}, dtype="float")
    crowdlab = get_label_quality_multiannotator(label_table, probs, verbose=False, return_weights=True)
    label_quality = crowdlab["label_quality"]
    weights = np.asarray(crowdlab["annotator_weight"], dtype=float)
    mixed = float(crowdlab["model_weight"]) * probs
    for weight, source in zip(weights, sources, strict=True):
        rows = np.flatnonzero(source.label != ABSTAIN)
        mixed[rows, source.label[rows]] += weight
    source_weights = {source.name: float(weight) for source, weight in zip(sources, weights, strict=True)}
    return LabelEstimate(
        method="consensus",
        name="crowdlab",
        label=label_quality["consensus_label"].to_numpy().astype(int),
        quality=label_quality["consensus_quality_score"].to_numpy(),
        probs=mixed / mixed.sum(axis=1, keepdims=True),
        kept=np.ones(len(probs), dtype=bool),
        weights=source_weights | {"classifier": float(crowdlab["model_weight"])},
    )


def _confident_learning(given: np.ndarray, quality: np.ndarray, probs: np.ndarray) -> LabelEstimate:
    onehot = np.eye(probs.shape[1])[given]
    return LabelEstimate(
        method="consensus",
        name="confident learning",
        label=given,
        quality=quality,
        probs=(onehot + probs) / 2,
        kept=np.ones(len(given), dtype=bool),
        weights={"given": 0.5, "classifier": 0.5},
    )
