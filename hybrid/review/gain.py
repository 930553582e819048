"""What a human look at a row is worth: the wrong labels that it is expected to take away.

With b_i the belief about row i over the labels, y_i its decided label, and N(i) its nearest neighbours:

    gain(i) = c(y_i) * ( sum_{t != y_i} b_i(t)  +  r * sum_{j in N(i), y_j = y_i} s_ij * sum_{t != y_i} b_i(t) b_j(t) )

The first sum is the probability that the row's own label is wrong. The second is what spreads: if a neighbour j with
the same decided label is wrong in the same way, a trusted answer about i helps to repair it. s_ij is the cosine of
the frozen embeddings, 0 where negative, and r says how much errors keep company in these data: it is measured, as
the correlation between neighbours of whether the sources disagree, and 0 where they do so alone. c(y) is n / (k n_y)
for n rows and k labels: a wrong label in a small class costs that class more.

Where repair has learnt from trusted rows what each source and its confidence are worth, its probabilities are the
belief. Else it is the mean of what cleaning found (of given label and classifier, where cleaning weighed nothing) and of
what each vote states of itself: its confidence on its label, the rest spread evenly. CROWDLAB weighs a source by how
often it agrees with the others, and ignores how sure it says it is.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from sklearn.neighbors import NearestNeighbors

from hybrid.label_sets import index_by_label
from hybrid.types import Vote

NEIGHBOURS = 10


class Gains(msgspec.Struct, frozen=True, kw_only=True):
    """For each row [n]: the gain of a look, and the probability that the decided label is wrong."""

    gain: np.ndarray
    wrong: np.ndarray
    company: float
    """The correlation r of disagreement between neighbours, 0 to 1."""


def with_what_votes_state(
    probs: np.ndarray, ids: Sequence[str], votes: Sequence[Vote], labels: Sequence[str]
) -> np.ndarray:
    """Return the probabilities [n, k] of the rows `ids`, in the mean with what their votes state of themselves."""
    probs = probs.copy()
    position = {row_id: i for i, row_id in enumerate(ids)}
    place = index_by_label(labels)
    total, n_stated = np.zeros_like(probs), np.zeros(len(probs))
    for vote in votes:
        if vote.label is not None and vote.confidence is not None:
            i, rest = position[vote.id], (1 - vote.confidence) / (len(labels) - 1)
            total[i] += rest
            total[i, place[vote.label]] += vote.confidence - rest
            n_stated[i] += 1
    spoke = n_stated > 0
    probs[spoke] = (probs[spoke] + total[spoke] / n_stated[spoke, None]) / 2
    return probs


def expected_gains(belief: np.ndarray, decided: np.ndarray, disagree: np.ndarray, embeddings: np.ndarray) -> Gains:
    """Return what a look at each row is worth, from its belief [n, k], its decided class [n], whether its sources
    disagree [n], and its embedding [n, d]."""
    rows = np.arange(len(decided))
    other = belief.copy()
    other[rows, decided] = 0.0
    wrong = other.sum(axis=1)
    near, similarity = _neighbours(embeddings)
    alike = decided[near] == decided[:, None]
    company = _company(disagree, near, alike)
    spread = (similarity * alike * np.einsum("nk,njk->nj", other, other[near])).sum(axis=1)
    counts = np.bincount(decided, minlength=belief.shape[1])
    weight = len(decided) / (np.count_nonzero(counts) * counts[decided])
    return Gains(gain=weight * (wrong + company * spread), wrong=wrong, company=company)


def _neighbours(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the nearest other rows of each row, [n, j], and their cosines."""
    n_near = min(NEIGHBOURS, len(embeddings) - 1)
    distance, near = NearestNeighbors(n_neighbors=n_near, metric="cosine").fit(embeddings).kneighbors()
    return near, np.clip(1 - distance, 0.0, 1.0)


def _company(disagree: np.ndarray, near: np.ndarray, alike: np.ndarray) -> float:
    own = np.repeat(disagree.astype(float)[:, None], near.shape[1], axis=1)[alike]
    theirs = disagree.astype(float)[near][alike]
    if len(own) < 2 or not own.std() or not theirs.std():
        return 0.0
    return float(max(0.0, np.corrcoef(own, theirs)[0, 1]))
