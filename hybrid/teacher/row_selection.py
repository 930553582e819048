"""Choose the rows on which the next teacher call is most useful: those on which the sources differ most.

The sources are the given label, a classifier (out-of-sample probabilities [n, k]) and, once it has answered, the
teacher.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from hybrid.config import VerifyConfig
from hybrid.types import Example, Vote


class TrustedRows(msgspec.Struct, frozen=True):
    """The ids of the trusted rows, and the label estimates of `repair` for all rows before a teacher is asked."""

    ids: frozenset[str]
    repaired: Callable[[], np.ndarray]
    """Returns class probabilities [n, k]; called only if the first votes do not cover every row."""


def needs_classifier(config: VerifyConfig, trusted: TrustedRows | None) -> bool:
    """Whether the rows are chosen with a classifier; with trusted rows, repair chooses those of the first votes."""
    return bool(config.more_calls or (config.max_calls and trusted is None))


def first_rows(
    rows: Sequence[Example], given: np.ndarray, probs: np.ndarray, config: VerifyConfig, trusted: TrustedRows | None
) -> list[int]:
    """Choose the rows of the first votes, in row order: all, or as many as `max_calls` allows."""
    if not config.max_calls:
        return list(range(len(rows)))
    affordable = config.max_calls // config.votes
    if trusted is None:
        order = by_uncertainty(given, probs)
    else:
        is_trusted = np.array([row.id in trusted.ids for row in rows])
        order = trusted_first(by_uncertainty(given, trusted.repaired()), is_trusted, affordable)
    return sorted(int(i) for i in order[:affordable])


def by_uncertainty(given: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Rank the rows [n]: those whose given label the classifier contradicts come first, the least probable label first.

    `given` holds class indices [n]. Ties keep row order.
    """
    probability = probs[np.arange(len(given)), given]
    agrees = probs.argmax(axis=1) == given
    return np.lexsort((np.arange(len(given)), probability, agrees))


def trusted_first(order: np.ndarray, trusted: np.ndarray, n_rows: int) -> np.ndarray:
    """Move trusted rows to the front of `order`, at most half of `n_rows`.

    `trusted` is a mask [n]. Only trusted rows show how a teacher errs: without its answers on some of them, its other
    answers get no weight. If there are more trusted rows than places, evenly spaced ones are taken: a file may be sorted
    by label.
    """
    rows = np.flatnonzero(trusted)
    n_first = min(len(rows), n_rows // 2)
    first = rows[np.arange(n_first) * len(rows) // max(1, n_first)]
    return np.concatenate([first, order[~np.isin(order, first)]])


def by_disagreement(
    given: np.ndarray, probs: np.ndarray, votes: Sequence[Sequence[Vote]], labels: Sequence[str]
) -> list[int]:
    """Rank the rows on which teacher, given label and classifier disagree, the strongest conflict first.

    `votes` holds the votes of each row. A row's conflict is one minus the largest class probability of the mean of the
    sources' beliefs. A row without a readable vote has two sources.
    """
    teacher = np.array([belief_of(of_row, labels) for of_row in votes]).reshape(len(given), len(labels))
    voted = teacher.sum(axis=1) > 0
    beliefs = np.eye(len(labels))[given] + probs + teacher
    conflict = 1 - beliefs.max(axis=1) / (2 + voted)
    differ = (probs.argmax(axis=1) != given) | (voted & (teacher.argmax(axis=1) != given))
    order = np.lexsort((np.arange(len(given)), -conflict))
    return [int(row) for row in order if differ[row]]


def belief_of(votes: Sequence[Vote], labels: Sequence[str]) -> np.ndarray:
    """Average the class probabilities [k] that a row's readable votes state; zeros if no vote is readable.

    A vote gives its label the stated confidence and spreads the rest evenly over the other labels. A vote without a
    confidence, or with one below 1/k, gives its label probability 1.
    """
    readable = [vote for vote in votes if vote.status == "ok" and vote.label is not None]
    belief = np.zeros(len(labels))
    for vote in readable:
        stated = vote.confidence if vote.confidence is not None and vote.confidence > 1 / len(labels) else 1.0
        of_vote = np.full(len(labels), (1 - stated) / max(1, len(labels) - 1))
        of_vote[labels.index(str(vote.label))] = stated
        belief += of_vote / len(readable)
    return belief


def votes_of_rows(row_ids: Sequence[str], votes: Sequence[Vote]) -> list[list[Vote]]:
    """Group votes by row, in row order."""
    by_id: dict[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        by_id[vote.id].append(vote)
    return [by_id[row_id] for row_id in row_ids]
