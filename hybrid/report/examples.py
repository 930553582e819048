"""The rows that the report lists: labels in doubt, and examples of accepted and refused drafts."""

from collections.abc import Mapping, Sequence

import msgspec

from hybrid.types import Action, Decision, Draft, DraftStatus, Example, Vote

MOST_ROWS = 400
"""The most rows on the page, so that searching it stays fast; the tables on disk have all rows."""
MOST_CHARACTERS = 600
DRAFTS_A_STATUS = 3
ACTIONS: tuple[Action, ...] = ("relabel", "review", "drop")


class Doubted(msgspec.Struct, frozen=True, kw_only=True):
    """A training row that cleaning relabelled, dropped or queued for review."""

    id: str
    where: str
    """File and line when the rows were split; empty in runs of earlier versions."""
    text: str
    given: str
    label: str
    action: Action
    reason: str
    rationales: list[str]
    """The teacher's answers, one entry per vote."""
    gold: str | None


def doubted_rows(
    rows: Sequence[Example], decisions: Sequence[Decision], votes: Sequence[Vote], gold: Mapping[str, str]
) -> list[Doubted]:
    """List the rows that cleaning relabelled, dropped or queued for review, grouped by action."""
    by_id = {row.id: row for row in rows}
    answers: dict[str, list[str]] = {}
    for vote in votes:
        answers.setdefault(vote.id, []).append(_answer(vote))
    rows_in_doubt = [
        Doubted(
            id=decision.id,
            where=by_id[decision.id].where,
            text=shortened(by_id[decision.id].text),
            given=decision.given,
            label=decision.label,
            action=decision.action,
            reason=decision.reason,
            rationales=answers.get(decision.id, []),
            gold=gold.get(decision.id),
        )
        for decision in decisions
        if decision.action != "keep" or decision.given != decision.label
    ]
    return sorted(rows_in_doubt, key=lambda row: (*ACTIONS, "keep").index(row.action))


def thinned(rows: Sequence[Doubted]) -> list[Doubted]:
    """Sample at most `MOST_ROWS` of the rows, evenly spaced, in their order."""
    step = max(1.0, len(rows) / MOST_ROWS)
    return [rows[int(i * step)] for i in range(min(len(rows), MOST_ROWS))]


def draft_examples(drafts: Sequence[Draft]) -> list[Draft]:
    """Pick the first few drafts of each status, accepted ones first."""
    shown: dict[DraftStatus, list[Draft]] = {}
    for draft in sorted(drafts, key=lambda draft: draft.status != "accepted"):
        shown.setdefault(draft.status, []).append(draft)
    first = [draft for of_status in shown.values() for draft in of_status[:DRAFTS_A_STATUS]]
    return [msgspec.structs.replace(draft, text=shortened(draft.text)) for draft in first]


def shortened(text: str) -> str:
    """Truncate a long text."""
    return text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS] + " …"


def _answer(vote: Vote) -> str:
    if vote.status == "ok":
        return shortened(f"{vote.label}: {vote.rationale}" if vote.rationale else str(vote.label))
    return shortened(f"{vote.status}: {vote.reason}")
