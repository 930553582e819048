"""Build the table of evidence for each label of each row, from which repair learns."""

from collections.abc import Sequence

import msgspec
import numpy as np

from hybrid.labels.soft_regression import fit_softmax, out_of_fold, softmax_log_probs
from hybrid.labels.sources import LabelSource

FEW_ROWS_PENALTY = 0.1
MANY_ROWS_PENALTY = 1.0
"""Ridge penalties for unit vectors: a few trusted rows need less regularisation than thousands of noisy ones."""
PRIOR_ROWS = 2.0
"""The pseudo-count of the prior on a source's reliability, in rows."""
PRIOR_RIGHT = 0.8
"""The prior probability that a source is right."""
FLOOR = 1e-3
NEIGHBOURS = 30
REFERENCE_ROWS = 10_000
"""Rows among which neighbours are looked for; of more, so many are drawn. All pairs of a million rows would take hours."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """The values, float32 [n, k, d], of d named kinds of evidence."""

    names: list[str]
    values: np.ndarray


class TextViews(msgspec.Struct, frozen=True, kw_only=True):
    """Predictions of each source's labels from the texts, without trusted rows: by source, log-probabilities [n, k]."""

    learned: dict[str, np.ndarray]
    """Out-of-fold predictions of a regression on the source's labels."""
    near: dict[str, np.ndarray]
    """The shares of the labels that the source gave to the nearest rows."""


def text_views(embeddings: np.ndarray, sources: Sequence[LabelSource], n_labels: int, folds: np.ndarray) -> TextViews:
    """Predict how each source would label each text, from its labels of the other texts."""
    identity = np.eye(n_labels, dtype=np.float32)
    neighbours = neighbours_of(embeddings)
    learned, near = {}, {}
    for source in sources:
        onehot = np.where(source.has_label[:, None], identity[source.label], 0)
        learned[source.name] = out_of_fold(embeddings, onehot, folds, penalty=MANY_ROWS_PENALTY)
        near[source.name] = _shares(neighbours, onehot)
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
    """Gather the evidence for each label of `rows` (default: all), given the labels `gold` [m] of `trusted` rows.

    `few_shot` is a classifier fitted on the trusted rows alone. The other kinds exist for each source: its label
    (`says`), its stated confidence (`sure`), the likely label given the source's label, by its confusion matrix on the
    trusted rows (`means`), the prediction of a classifier of the source's labels (`text`), that prediction through the
    confusion matrix (`text_means`), and the source's labels of neighbouring rows (`near`). To learn from the evidence
    about a trusted row, leave that row out of `trusted`.
    """
    row_numbers = np.arange(len(embeddings)) if rows is None else rows
    n_labels = next(iter(views.learned.values())).shape[1]
    few_shot = fit_softmax(embeddings[trusted], np.eye(n_labels)[gold], penalty=FEW_ROWS_PENALTY)
    by_kind = {"few_shot": softmax_log_probs(few_shot, embeddings[row_numbers])}
    for source in sources:
        confusion = _confusion(source.label[trusted], gold, n_labels)
        by_kind |= {
            f"{source.name}_{kind}": values
            for kind, values in _of_source(source, views, confusion, row_numbers).items()
        }
    return Evidence(names=list(by_kind), values=np.stack(list(by_kind.values()), axis=-1).astype(np.float32))


def _of_source(
    source: LabelSource, views: TextViews, confusion: np.ndarray, row_numbers: np.ndarray
) -> dict[str, np.ndarray]:
    """Gather one source's evidence [m, k] about the rows `row_numbers`, by kind."""
    label, has_label = source.label[row_numbers], source.has_label[row_numbers][:, None]
    onehot = np.where(has_label, np.eye(len(confusion), dtype=np.float32)[label], 0)
    learned = views.learned[source.name][row_numbers]
    by_kind = {
        "says": onehot,
        "means": np.where(has_label, np.log(confusion[label] + FLOOR), 0),
        "text": learned,
        "text_means": np.log(np.exp(learned) @ confusion + FLOOR),
        "near": views.near[source.name][row_numbers],
    }
    if np.isnan(source.confidence).all():
        return by_kind
    return by_kind | {"sure": onehot * _sureness(source.confidence)[row_numbers][:, None]}


def _confusion(labels: np.ndarray, gold: np.ndarray, n_labels: int) -> np.ndarray:
    """Estimate P(gold | source label) [k, k] on the trusted rows, smoothed towards a source that is mostly right."""
    counts = np.zeros((n_labels, n_labels))
    has_label = labels >= 0
    np.add.at(counts, (labels[has_label], gold[has_label]), 1)
    prior = np.full((n_labels, n_labels), (1 - PRIOR_RIGHT) / n_labels) + PRIOR_RIGHT * np.eye(n_labels)
    return np.asarray((counts + PRIOR_ROWS * prior) / (counts.sum(axis=1, keepdims=True) + PRIOR_ROWS))


def _sureness(confidence: np.ndarray) -> np.ndarray:
    """Compute the log-odds of the stated confidence, centred on their mean; 0 where none was stated."""
    odds = np.log((confidence + FLOOR) / (1 - confidence + FLOOR))
    return np.asarray(np.nan_to_num(odds - np.nanmean(odds)))


def neighbours_of(embeddings: np.ndarray) -> np.ndarray:
    """Find the nearest other rows of each row, [n, m], among all rows or `REFERENCE_ROWS` drawn ones."""
    n = len(embeddings)
    n_near = min(NEIGHBOURS, n - 1)
    drawn = np.arange(n)
    if n > REFERENCE_ROWS:
        drawn = np.sort(np.random.default_rng(0).choice(n, REFERENCE_ROWS, replace=False))
    reference = embeddings if n == len(drawn) else embeddings[drawn]
    nearest = np.zeros((n, n_near), dtype=np.int32)
    for start in range(0, n, 1000):
        similar = embeddings[start : start + 1000] @ reference.T
        own = np.flatnonzero((drawn >= start) & (drawn < start + len(similar)))
        similar[drawn[own] - start, own] = -np.inf
        nearest[start : start + 1000] = drawn[np.argpartition(similar, -n_near, axis=1)[:, -n_near:]]
    return nearest


def _shares(neighbours: np.ndarray, onehot: np.ndarray) -> np.ndarray:
    """Compute the log of each label's smoothed share among the neighbours [n, k]."""
    votes = np.zeros(onehot.shape, dtype=np.float32)
    for near in neighbours.T:
        votes += onehot[near]
    return np.asarray(np.log((votes + 0.1) / (votes.sum(axis=1, keepdims=True) + 0.1 * onehot.shape[1])))
