"""Which rows a teacher's next call is worth most on: those on which the sources differ most.

Sources are the given label, the classifier (probabilities [n, k] from a fit that never saw the row's own label)
and, once it has spoken, the teacher.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from hybrid.types import Vote


def by_uncertainty(given: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Return row indices [n]: where classifier and given label differ first, the least believed label first.

    `given` are class indices [n]. Rows of equal doubt stay in their order.
    """
    believed = probs[np.arange(len(given)), given]
    agrees = probs.argmax(axis=1) == given
    return np.lexsort((np.arange(len(given)), believed, agrees))


def trusted_first(order: np.ndarray, trusted: np.ndarray, n_rows: int) -> np.ndarray:
    """Return the rows of `order` with trusted ones before the others, as many as half of `n_rows`.

    `trusted` [n] says which are. How a teacher errs is learned on trusted rows alone, whatever they are about: of one
    that was asked about none of them nothing is known, and its other answers count for nothing. Where they are too many,
    those asked about are spread over all of them, for a file may be sorted by label.
    """
    known = np.flatnonzero(trusted)
    n_first = min(len(known), n_rows // 2)
    first = known[np.arange(n_first) * len(known) // max(1, n_first)]
    return np.concatenate([first, order[~np.isin(order, first)]])


def by_disagreement(
    given: np.ndarray, probs: np.ndarray, votes: Sequence[Sequence[Vote]], labels: Sequence[str]
) -> list[int]:
    """Return the rows on which teacher, given label and classifier do not agree, the most conflicting first.

    `votes` are those of each row. A row's conflict is what the best label lacks of full belief: one minus the largest
    mean over the sources' beliefs. A row of which the teacher said nothing has two sources.
    """
    teacher = np.array([belief_of(one, labels) for one in votes]).reshape(len(given), len(labels))
    spoke = teacher.sum(axis=1) > 0
    beliefs = np.eye(len(labels))[given] + probs + teacher
    conflict = 1 - beliefs.max(axis=1) / (2 + spoke)
    believes = probs.argmax(axis=1)
    differ = (believes != given) | (spoke & (teacher.argmax(axis=1) != given))
    order = np.lexsort((np.arange(len(given)), -conflict))
    return [int(row) for row in order if differ[row]]


def belief_of(votes: Sequence[Vote], labels: Sequence[str]) -> np.ndarray:
    """Return the mean belief [k] of a row's readable votes; zeros where there is none.

    A vote believes its label as far as its stated confidence goes and the others evenly for the rest; a vote that
    states none, or less than an even share, is taken at its word.
    """
    said = [vote for vote in votes if vote.status == "ok" and vote.label is not None]
    belief = np.zeros(len(labels))
    for vote in said:
        sure = vote.confidence if vote.confidence is not None and vote.confidence > 1 / len(labels) else 1.0
        one = np.full(len(labels), (1 - sure) / max(1, len(labels) - 1))
        one[labels.index(str(vote.label))] = sure
        belief += one / len(said)
    return belief


def votes_of_rows(row_ids: Sequence[str], votes: Sequence[Vote]) -> list[list[Vote]]:
    """Return the votes of each row, in row order."""
    by_id: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        by_id[vote.id].append(vote)
    return [by_id[row_id] for row_id in row_ids]
