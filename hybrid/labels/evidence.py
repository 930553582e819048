"""What speaks for each label of each row: the table from which repair learns."""

from collections.abc import Sequence

import msgspec
import numpy as np

from hybrid.labels.soft_regression import fit_softmax, out_of_fold, softmax_log_probs
from hybrid.labels.sources import LabelSource

FEW_ROWS_PENALTY = 0.1
MANY_ROWS_PENALTY = 1.0
"""Ridge penalties for unit vectors: a handful of sure rows a label want a lighter hand than thousands of noisy ones."""
PRIOR_ROWS = 2.0
"""How many rows the prior of a source's reliability counts for."""
PRIOR_RIGHT = 0.8
FLOOR = 1e-3
NEIGHBOURS = 30


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Values float32 [n, k, d] of the d named kinds of evidence."""

    names: list[str]
    values: np.ndarray


class TextViews(msgspec.Struct, frozen=True, kw_only=True):
    """What the texts say of each source's labels, without any trusted row: by source, log-probabilities [n, k]."""

    learned: dict[str, np.ndarray]
    """Regression on the source's labels, each row asked out of fold."""
    near: dict[str, np.ndarray]
    """The labels that the source gave to the nearest rows."""


def text_views(embeddings: np.ndarray, sources: Sequence[LabelSource], n_labels: int, folds: np.ndarray) -> TextViews:
    """Return how each source would label each text by its labels of the other texts."""
    identity = np.eye(n_labels, dtype=np.float32)
    neighbours = _neighbours(embeddings)
    learned, near = {}, {}
    for source in sources:
        said = np.where(source.spoke[:, None], identity[source.said], 0)
        learned[source.name] = out_of_fold(embeddings, said, folds, penalty=MANY_ROWS_PENALTY)
        near[source.name] = _shares(neighbours, said)
    return TextViews(learned=learned, near=near)


def evidence(
    embeddings: np.ndarray,
    sources: Sequence[LabelSource],
    views: TextViews,
    trusted: np.ndarray,
    gold: np.ndarray,
    *,
    rows: np.ndarray | None = None,
) -> Evidence:
    """Return what speaks for each label of `rows` (all, where absent), given the labels `gold` [m] of `trusted` rows.

    `few_shot` is the classifier that the trusted rows alone teach. By source: what it `says`, how `sure` it is, what
    its word `means` by the confusion matrix on the trusted rows, what its classifier says of the `text`, what that
    means (`text_means`), and what it said `near` by. Evidence about a trusted row is only fair to learn from where
    that row is not among `trusted`.
    """
    asked = np.arange(len(embeddings)) if rows is None else rows
    n_labels = next(iter(views.learned.values())).shape[1]
    few = fit_softmax(embeddings[trusted], np.eye(n_labels)[gold], penalty=FEW_ROWS_PENALTY)
    found = {"few_shot": softmax_log_probs(few, embeddings[asked])}
    for source in sources:
        means = _meaning(source.said[trusted], gold, n_labels)
        found |= {f"{source.name}_{kind}": values for kind, values in _of_source(source, views, means, asked).items()}
    return Evidence(names=list(found), values=np.stack(list(found.values()), axis=-1).astype(np.float32))


def _of_source(source: LabelSource, views: TextViews, means: np.ndarray, asked: np.ndarray) -> dict[str, np.ndarray]:
    """Return the evidence [m, k] that one source gives about the rows `asked`, by kind."""
    label, spoke = source.said[asked], source.spoke[asked][:, None]
    said = np.where(spoke, np.eye(len(means), dtype=np.float32)[label], 0)
    learned = views.learned[source.name][asked]
    found = {
        "says": said,
        "means": np.where(spoke, np.log(means[label] + FLOOR), 0),
        "text": learned,
        "text_means": np.log(np.exp(learned) @ means + FLOOR),
        "near": views.near[source.name][asked],
    }
    if np.isnan(source.confidence).all():
        return found
    return found | {"sure": said * _sureness(source.confidence)[asked][:, None]}


def _meaning(said: np.ndarray, gold: np.ndarray, n_labels: int) -> np.ndarray:
    """Return P(gold | said) [k, k] by the trusted rows, smoothed towards a source that is mostly right."""
    counts = np.zeros((n_labels, n_labels))
    spoke = said >= 0
    np.add.at(counts, (said[spoke], gold[spoke]), 1)
    prior = np.full((n_labels, n_labels), (1 - PRIOR_RIGHT) / n_labels) + PRIOR_RIGHT * np.eye(n_labels)
    return np.asarray((counts + PRIOR_ROWS * prior) / (counts.sum(axis=1, keepdims=True) + PRIOR_ROWS))


def _sureness(confidence: np.ndarray) -> np.ndarray:
    """Return the log-odds of the stated confidence around their mean; 0 where none was stated."""
    odds = np.log((confidence + FLOOR) / (1 - confidence + FLOOR))
    return np.asarray(np.nan_to_num(odds - np.nanmean(odds)))


def _neighbours(embeddings: np.ndarray) -> np.ndarray:
    """Return the nearest other rows of each row, [n, m]."""
    n_near = min(NEIGHBOURS, len(embeddings) - 1)
    nearest = np.zeros((len(embeddings), n_near), dtype=int)
    for start in range(0, len(embeddings), 1000):
        similar = embeddings[start : start + 1000] @ embeddings.T
        similar[np.arange(len(similar)), np.arange(start, start + len(similar))] = -np.inf
        nearest[start : start + 1000] = np.argpartition(-similar, n_near - 1, axis=1)[:, :n_near]
    return nearest


def _shares(neighbours: np.ndarray, said: np.ndarray) -> np.ndarray:
    """Return the logarithm of each label's share among the neighbours [n, k]."""
    votes = np.zeros(said.shape, dtype=np.float32)
    for near in neighbours.T:
        votes += said[near]
    return np.asarray(np.log((votes + 0.1) / (votes.sum(axis=1, keepdims=True) + 0.1 * said.shape[1])))
