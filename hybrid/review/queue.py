"""The queue itself: training rows in the order of what a look is worth, with what a reviewer wants to see."""

from collections.abc import Collection, Mapping, Sequence

import msgspec
import numpy as np

from hybrid.label_sets import index_by_label
from hybrid.review.answers import ReviewItem
from hybrid.review.gain import expected_gains
from hybrid.types import Decision, Example, Vote

DIGITS = 6


def review_queue(
    rows: Sequence[Example],
    decisions: Sequence[Decision],
    votes: Sequence[Vote],
    embeddings: np.ndarray,
    belief: np.ndarray,
    labels: Sequence[str],
    *,
    known: Collection[str] = (),
) -> list[ReviewItem]:
    """Return every training row but the `known` (trusted) ones, the most worthwhile look first.

    `rows`, `decisions`, `embeddings` [n, d] and `belief` [n, k] are in the same order.
    """
    place = index_by_label(labels)
    said = _said(votes)
    decided = np.array([place[decision.label] for decision in decisions])
    given = np.array([place[decision.given] for decision in decisions])
    disagree = np.array(
        [
            place[str(said[d.id].label)] != given[i] if d.id in said else belief[i].argmax() != given[i]
            for i, d in enumerate(decisions)
        ]
    )
    found = expected_gains(belief, decided, disagree, embeddings)
    order = np.argsort(-found.gain, kind="stable")
    return [
        _look(rows[i], decisions[i], said.get(rows[i].id), belief=1 - found.wrong[i], gain=found.gain[i])
        for i in order
        if rows[i].id not in known
    ]


def _said(votes: Sequence[Vote]) -> Mapping[str, Vote]:
    """Return the first vote with a label of each row."""
    found: dict[str, Vote] = {}
    for vote in votes:
        if vote.label is not None:
            found.setdefault(vote.id, vote)
    return found


def _look(row: Example, decision: Decision, vote: Vote | None, *, belief: float, gain: float) -> ReviewItem:
    looked = ReviewItem(
        id=row.id,
        text=row.text,
        given=decision.given,
        label=decision.label,
        belief=round(float(belief), DIGITS),
        gain=round(float(gain), DIGITS),
    )
    if vote is None:
        return looked
    return msgspec.structs.replace(
        looked,
        teacher=vote.source,
        teacher_label=vote.label or "",
        teacher_confidence=vote.confidence,
        reason=vote.rationale,
    )
