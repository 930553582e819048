"""The review queue: training rows in descending order of expected gain, with the fields that a reviewer sees."""

from collections.abc import Collection, Mapping, Sequence

import msgspec
import numpy as np

from hybrid.label_sets import index_by_label
from hybrid.review.answers import ReviewItem
from hybrid.review.gain import Gains, expected_gains
from hybrid.types import Decision, Example, Vote

DIGITS = 6
COMPANY_SHARE = 0.5
"""The share of a row's gain from which its neighbours are named as a reason."""
RARE_WEIGHT = 1.5
"""The weight of a class from which it is named as a reason."""


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
    """Rank the training rows by expected gain, the highest first, without the `known` (trusted) ones.

    `rows`, `decisions`, `embeddings` [n, d] and `belief` [n, k] are in the same order.
    """
    index = index_by_label(labels)
    first_votes = _first_votes(votes)
    decided = np.array([index[decision.label] for decision in decisions])
    given = np.array([index[decision.given] for decision in decisions])
    disagree = np.array(
        [
            index[str(first_votes[d.id].label)] != given[i] if d.id in first_votes else belief[i].argmax() != given[i]
            for i, d in enumerate(decisions)
        ]
    )
    gains = expected_gains(belief, decided, disagree, embeddings)
    order = np.argsort(-gains.gain, kind="stable")
    return [
        _item(
            rows[i],
            decisions[i],
            first_votes.get(rows[i].id),
            belief=1 - gains.wrong[i],
            gain=gains.gain[i],
            why=_why(decisions[i], first_votes.get(rows[i].id), belief[i], gains, int(i), labels),
        )
        for i in order
        if rows[i].id not in known
    ]


def _why(decision: Decision, vote: Vote | None, belief: np.ndarray, gains: Gains, i: int, labels: Sequence[str]) -> str:
    """Say what makes a row worth a look: the doubt about its label, who differs, its neighbours, its class."""
    others = np.where(np.array(labels) == decision.label, -1.0, belief)
    likeliest = int(others.argmax())
    parts = [
        f"{decision.label} is wrong with probability {gains.wrong[i]:.0%}, most likely {labels[likeliest]} "
        f"({others[likeliest]:.0%})"
    ]
    voices = {f"given {decision.given}": decision.given}
    if vote is not None and vote.label is not None:
        voices |= {f"{vote.source} says {vote.label}": vote.label}
    if set(voices.values()) != {decision.label}:
        parts.append(", ".join(voices))
    if gains.company[i] > COMPANY_SHARE * (gains.wrong[i] + gains.company[i]):
        parts.append("rows like it are in doubt in the same way")
    if gains.weight[i] >= RARE_WEIGHT:
        parts.append(f"{decision.label} is rare: its rows count {gains.weight[i]:.1f} times")
    return "; ".join(parts)


def _first_votes(votes: Sequence[Vote]) -> Mapping[str, Vote]:
    """Select the first vote with a label of each row."""
    first_votes: dict[str, Vote] = {}
    for vote in votes:
        if vote.label is not None:
            first_votes.setdefault(vote.id, vote)
    return first_votes


def _item(row: Example, decision: Decision, vote: Vote | None, *, belief: float, gain: float, why: str) -> ReviewItem:
    item = ReviewItem(
        id=row.id,
        text=row.text,
        given=decision.given,
        label=decision.label,
        belief=round(float(belief), DIGITS),
        gain=round(float(gain), DIGITS),
        why=why,
        where=row.where,
    )
    if vote is None:
        return item
    return msgspec.structs.replace(
        item,
        teacher=vote.source,
        teacher_label=vote.label or "",
        teacher_confidence=vote.confidence,
        reason=vote.rationale,
    )
