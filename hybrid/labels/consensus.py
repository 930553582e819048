"""The consensus of all sources where no label is trusted: CROWDLAB, or the given label where nobody else spoke."""

from collections.abc import Sequence

import msgspec
import numpy as np
import pandas as pd
from cleanlab.multiannotator import get_label_quality_multiannotator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from hybrid.labels.estimate import LabelEstimate
from hybrid.labels.sources import ABSTAIN, LabelSource

MIN_RELATIVE_RELIABILITY = 0.5
"""Of what the given labels know of the truth; with less, CROWDLAB made labels worse (`benchmarks/local_teacher.py`)."""


def consensus(
    sources: Sequence[LabelSource], given: np.ndarray, quality_given: np.ndarray, probs: np.ndarray
) -> LabelEstimate:
    """Return what the sources and the classifier's out-of-sample `probs` [n, k] say together.

    CROWDLAB (Goh et al. 2022) weighs them, but for votes that are worth too little. Where no row has two sources there
    is no consensus to form: the given label stays, and its quality is the classifier's belief.
    """
    weak = tuple(source.name for source in sources if _is_weak(source, given, probs))
    heard = [source for source in sources if source.name not in weak]
    spoke = np.sum([source.spoke for source in heard], axis=0)
    found = _crowdlab(heard, probs) if spoke.max() > 1 else _alone(given, quality_given, probs)
    return msgspec.structs.replace(found, weights=found.weights | dict.fromkeys(weak, 0.0), not_heard=weak)


def cross_fitted(features: np.ndarray, targets: np.ndarray, n_labels: int, *, folds: int, seed: int) -> np.ndarray:
    """Return out-of-sample class probabilities, shape [n, n_labels], from balanced logistic regression."""
    fewest = int(np.bincount(targets)[np.unique(targets)].min())
    splitter = StratifiedKFold(max(2, min(folds, fewest)), shuffle=True, random_state=seed)
    model = LogisticRegression(max_iter=1000, class_weight="balanced")
    found = cross_val_predict(model, features, targets, cv=splitter, method="predict_proba")
    probs = np.full((len(targets), n_labels), 1e-9)
    probs[:, np.unique(targets)] = found
    return np.asarray(probs / probs.sum(axis=1, keepdims=True))


def _is_weak(source: LabelSource, given: np.ndarray, probs: np.ndarray) -> bool:
    """Return whether votes are clearly worth less than `MIN_RELATIVE_RELIABILITY` of what the given labels are.

    CROWDLAB cannot say which of two sources is the worse one: it weighs both by how often they agree, and where they
    seldom do it follows the classifier, which may be worse than either. The classifier can: of sources that err apart, two
    agree beyond chance as often as the product of what each knows (Platanios et al. 2014), so that their agreements
    with a third have the ratio of what they know.
    """
    if not source.is_vote or not source.spoke.any():
        return False
    rows, chance = source.spoke, 1 / probs.shape[1]
    believes = probs[rows].argmax(axis=1)
    vote, label = ((said[rows] == believes) - chance for said in (source.said, given))
    short = MIN_RELATIVE_RELIABILITY * label - vote
    return bool(short.mean() > short.std() / np.sqrt(len(short)))


def _crowdlab(sources: Sequence[LabelSource], probs: np.ndarray) -> LabelEstimate:
    said = pd.DataFrame({s.name: np.where(s.spoke, s.said, np.nan) for s in sources}, dtype="float")
    found = get_label_quality_multiannotator(said, probs, verbose=False, return_weights=True)
    label_quality = found["label_quality"]
    weights = np.asarray(found["annotator_weight"], dtype=float)
    mixed = float(found["model_weight"]) * probs
    for weight, source in zip(weights, sources, strict=True):
        rows = np.flatnonzero(source.said != ABSTAIN)
        mixed[rows, source.said[rows]] += weight
    named = {source.name: float(weight) for source, weight in zip(sources, weights, strict=True)}
    return LabelEstimate(
        name="crowdlab",
        label=label_quality["consensus_label"].to_numpy().astype(int),
        quality=label_quality["consensus_quality_score"].to_numpy(),
        probs=mixed / mixed.sum(axis=1, keepdims=True),
        kept=np.ones(len(probs), dtype=bool),
        weights=named | {"classifier": float(found["model_weight"])},
    )


def _alone(given: np.ndarray, quality: np.ndarray, probs: np.ndarray) -> LabelEstimate:
    onehot = np.eye(probs.shape[1])[given]
    return LabelEstimate(
        name="confident learning",
        label=given,
        quality=quality,
        probs=(onehot + probs) / 2,
        kept=np.ones(len(given), dtype=bool),
        weights={"given": 0.5, "classifier": 0.5},
    )
