"""The value of reviewing a row: the expected number of wrong labels that a trusted answer removes.

With b_i the belief about row i over the labels, y_i its decided label, and N(i) its nearest neighbours:

    gain(i) = c(y_i) * ( sum_{t != y_i} b_i(t)  +  r * sum_{j in N(i), y_j = y_i} s_ij * sum_{t != y_i} b_i(t) b_j(t) )

The first sum is the probability that the row's own label is wrong. The second is the expected effect on neighbours: if
a neighbour j with the same decided label is wrong in the same way, a trusted answer about i helps to repair it. s_ij is
the cosine similarity of the frozen embeddings, clipped at 0. r measures how strongly errors cluster in these data: the
correlation, between neighbours, of whether the sources disagree, clipped at 0. c(y) is n / (k n_y) for n rows and k
labels, because a wrong label in a small class costs that class more.

With `repair`, which learns the reliability of each source and its confidence from trusted rows, its probabilities are
the belief. Otherwise the belief averages two estimates: the probabilities of the cleaning method (of given label and
classifier, if the method weighs no sources), and those that the votes state, with the confidence on the vote's label
and the rest spread evenly. CROWDLAB alone would ignore stated confidence: it weighs a source by its agreement with the
others.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from sklearn.neighbors import NearestNeighbors

from hybrid.label_sets import index_by_label
from hybrid.types import Vote

NEIGHBOURS = 10


class Gains(msgspec.Struct, frozen=True, kw_only=True):
    """For each row [n]: the gain of a review, the probability that the decided label is wrong, and what else made the gain."""

    gain: np.ndarray
    wrong: np.ndarray
    company: np.ndarray
    """The part of a row's gain, before its weight, that comes from its neighbours [n]."""
    weight: np.ndarray
    """The weight c of each row's decided label [n]."""
    correlation: float
    """The correlation r of disagreement between neighbours, 0 to 1."""


def blend_stated_confidence(
    probs: np.ndarray, ids: Sequence[str], votes: Sequence[Vote], labels: Sequence[str]
) -> np.ndarray:
    """Average the probabilities [n, k] of the rows `ids` with those that their votes state, where a vote states any."""
    probs = probs.copy()
    position = {row_id: i for i, row_id in enumerate(ids)}
    index = index_by_label(labels)
    total, n_stated = np.zeros_like(probs), np.zeros(len(probs))
    for vote in votes:
        if vote.label is not None and vote.confidence is not None:
            i, rest = position[vote.id], (1 - vote.confidence) / (len(labels) - 1)
            total[i] += rest
            total[i, index[vote.label]] += vote.confidence - rest
            n_stated[i] += 1
    has_stated = n_stated > 0
    probs[has_stated] = (probs[has_stated] + total[has_stated] / n_stated[has_stated, None]) / 2
    return probs


def expected_gains(belief: np.ndarray, decided: np.ndarray, disagree: np.ndarray, embeddings: np.ndarray) -> Gains:
    """Compute the gain of reviewing each row, from its belief [n, k], its decided class [n], whether its sources
    disagree [n], and its embedding [n, d]."""
    rows = np.arange(len(decided))
    other = belief.copy()
    other[rows, decided] = 0.0
    wrong = other.sum(axis=1)
    near, similarity = _neighbours(embeddings)
    same_label = decided[near] == decided[:, None]
    correlation = _neighbour_correlation(disagree, near, same_label)
    spread = (similarity * same_label * np.einsum("nk,njk->nj", other, other[near])).sum(axis=1)
    counts = np.bincount(decided, minlength=belief.shape[1])
    weight = len(decided) / (np.count_nonzero(counts) * counts[decided])
    company = correlation * spread
    return Gains(gain=weight * (wrong + company), wrong=wrong, company=company, weight=weight, correlation=correlation)


def _neighbours(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest other rows of each row [n, j] and their cosine similarities."""
    n_near = min(NEIGHBOURS, len(embeddings) - 1)
    distance, near = NearestNeighbors(n_neighbors=n_near, metric="cosine").fit(embeddings).kneighbors()
    return near, np.clip(1 - distance, 0.0, 1.0)


def _neighbour_correlation(disagree: np.ndarray, near: np.ndarray, same_label: np.ndarray) -> float:
    own = np.repeat(disagree.astype(float)[:, None], near.shape[1], axis=1)[same_label]
    theirs = disagree.astype(float)[near][same_label]
    if len(own) < 2 or not own.std() or not theirs.std():
        return 0.0
    return float(max(0.0, np.corrcoef(own, theirs)[0, 1]))
