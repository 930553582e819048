"""verify: blind votes of the teacher on training rows. The teacher never sees the label under test."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from hybrid.config import LLMConfig, VerifyConfig
from hybrid.errors import DataError, LLMError
from hybrid.llm.client.pool import ask_all
from hybrid.llm.request import LLM
from hybrid.llm.tasks.label import label_request, read_vote
from hybrid.types import Example, Vote

AskPrompt = Literal["verify", "direct"]


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """The votes, in row order, a row's samples side by side, and the counts."""

    votes: list[Vote]
    report: dict[str, object]


def verify(
    rows: Sequence[Example],
    labels: Sequence[str],
    config: VerifyConfig,
    *,
    teacher: LLM,
    llm: LLMConfig,
    policy: str = "",
    on_done: Callable[[int], None] | None = None,
) -> Verified:
    """Return `config.votes` blind votes for each row; `on_done` hears how many are in.

    `llm` is the teacher's section of the recipe, `policy` the text of the labelling policy. Only
    the row's text goes into a request: not its label, its annotations or its id.

    Raises:
        DataError: a row is not a training row.
        LLMError: the teacher cannot be used, or failed on every given row.
    """
    asked = [(row, sample) for row in rows for sample in range(config.votes)]
    votes = ask_votes(asked, labels, prompt_of(config), teacher=teacher, llm=llm, policy=policy, on_done=on_done)
    return Verified(votes=votes, report=report_votes(rows, votes, labels, teacher.name))


def ask_votes(
    asked: Sequence[tuple[Example, int]],
    labels: Sequence[str],
    prompt: AskPrompt,
    *,
    teacher: LLM,
    llm: LLMConfig,
    policy: str = "",
    on_done: Callable[[int], None] | None = None,
) -> list[Vote]:
    """Return one blind vote for each pair of a row and the number of the sample.

    Raises: as `verify`.
    """
    for row, _ in asked:
        if row.part != "train":
            raise DataError(f"verify: row {row.id} is a {row.part} row; want training rows alone: no other is cleaned")
    requests = [label_request(prompt, row.text, labels, llm, policy=policy, sample=n) for row, n in asked]
    replies = ask_all(requests, teacher, llm.workers, on_done)
    votes = [
        read_vote(row.id, reply, labels, teacher=teacher.name, sample=sample)
        for (row, sample), reply in zip(asked, replies, strict=True)
    ]
    # Synthetic rows may all be unknown to a recorded teacher; the given rows may not.
    if any(row.origin == "given" for row, _ in asked) and all(vote.status == "failed" for vote in votes):
        raise LLMError(
            f"verify: all {len(votes)} requests to {teacher.name} failed, the first with: {votes[0].reason}; "
            "correct the model's section of the recipe, then run again"
        )
    return votes


def prompt_of(config: VerifyConfig) -> AskPrompt:
    """Return the name of the prompt that the teacher is asked with."""
    return "verify" if config.answer == "reasoned" else "direct"


def report_votes(
    rows: Sequence[Example], votes: Sequence[Vote], labels: Sequence[str], teacher: str
) -> dict[str, object]:
    """Return the counts of the votes on rows: statuses, labels, and how often they differ from the given label."""
    given = {row.id: row.label for row in rows}
    status = Counter(vote.status for vote in votes)
    ok = [vote for vote in votes if vote.status == "ok"]
    sure = [vote.confidence for vote in ok if vote.confidence is not None]
    tally = Counter(vote.label for vote in ok)
    disagree = sum(vote.label != given[vote.id] for vote in ok)
    return {
        "teacher": teacher,
        "rows": len(rows),
        "asked": len(votes),
        **{name: status[name] for name in ("ok", "failed", "unreadable", "abstained")},
        "labels": {label: tally[label] for label in labels},
        "mean_confidence": sum(sure) / len(sure) if sure else None,
        "with_confidence": len(sure),
        "disagree_with_given": disagree,
        "disagree_share": disagree / len(ok) if ok else None,
        "reasons": dict(Counter(vote.reason for vote in votes if vote.status != "ok").most_common(10)),
    }
