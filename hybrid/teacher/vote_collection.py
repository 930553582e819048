"""Ask a teacher about training rows: first votes within the call budget, then further votes where the sources differ.

The teacher is blind: only a row's text goes into a request, never its label, its annotations or its id.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec
import numpy as np

from hybrid.config import LLMConfig, VerifyConfig
from hybrid.errors import DataError, LLMError
from hybrid.llm import LLM, Reply, Request, ask_all, backend_of, key, usage_of
from hybrid.llm.tasks.label import label_request, read_vote
from hybrid.teacher.ask import AskedVotes, OnDone, usage_report
from hybrid.teacher.row_selection import (
    TrustedRows,
    belief_of,
    by_disagreement,
    first_rows,
    needs_classifier,
    votes_of_rows,
)
from hybrid.types import Example, Report, Vote

AskPrompt = Literal["verify", "direct"]
"""The prompt: "verify" has the teacher reason before it labels, "direct" asks for the label at once."""
FURTHER_VOTES = 2
"""Further votes per row: together with one first vote they can form a majority."""


class Teacher(msgspec.Struct, frozen=True, kw_only=True):
    """A language model that labels, its section of the recipe, and the text of its labelling policy."""

    llm: LLM
    config: LLMConfig
    policy: str = ""


def collect_votes(
    rows: Sequence[Example],
    labels: Sequence[str],
    config: VerifyConfig,
    *,
    teacher: Teacher | None,
    second: Teacher | None = None,
    beliefs: Callable[[], np.ndarray] | None = None,
    trusted: TrustedRows | None = None,
    on_done: OnDone | None = None,
) -> AskedVotes:
    """Ask the teachers about training rows, first where an answer is most useful; no votes without a teacher.

    Args:
        second: the teacher of the further votes if `config.more` is "second".
        beliefs: returns class probabilities [n, k] of the rows from a classifier that never saw the row's own label;
            called only if `hybrid.teacher.row_selection.needs_classifier` is true.
        trusted: the rows whose labels are known; needed if the call budget does not cover all rows.

    Returns:
        The votes in row order, a row's first votes before its further ones, and the counts of each step.

    Raises:
        DataError: a row is not a training row.
        LLMError: the teacher cannot be used, or failed on every given row.
    """
    if teacher is None:
        return AskedVotes(votes=[], report={"asked": 0, "ok": 0} | usage_report(None, LLMConfig()))
    given = np.array([labels.index(row.label) for row in rows])
    probs = np.zeros((len(rows), len(labels)))
    if needs_classifier(config, trusted):
        assert beliefs is not None
        probs = beliefs()
    chosen = first_rows(rows, given, probs, config, trusted)
    samples = [(rows[i], sample) for i in chosen for sample in range(config.votes)]
    first = ask_votes(samples, labels, prompt_of(config), teacher=teacher, on_done=on_done)
    steps = [_step("first votes", first, [], labels)]
    further: list[Vote] = []
    if config.more_calls:
        order = by_disagreement(given, probs, votes_of_rows([row.id for row in rows], first), labels)
        further = _further_votes([rows[i] for i in order], labels, config, teacher, second, on_done)
        step = _step(config.more, further, first, labels)
        steps.append(step | {"conflicting": len(order), "reason": _why_none(config, teacher) if not further else ""})
    of_rows = votes_of_rows([row.id for row in rows], [*first, *further])
    votes = [vote for of_row in of_rows for vote in of_row]
    report = _counts(rows, votes, labels, teacher.llm.name)
    report |= {"not_asked": len(rows) - len({vote.id for vote in votes}), "steps": steps}
    report |= usage_report(teacher.llm, teacher.config, votes)
    if second is not None:
        report["second"] = usage_report(second.llm, second.config, votes)
    return AskedVotes(votes=votes, report=report)


def ask_votes(
    samples: Sequence[tuple[Example, int]],
    labels: Sequence[str],
    prompt: AskPrompt,
    *,
    teacher: Teacher,
    on_done: OnDone | None = None,
) -> list[Vote]:
    """Ask for one blind vote for each pair of a row and the number of the sample, in that order.

    Raises:
        DataError: a row is not a training row.
        LLMError: the teacher cannot be used, or failed on every given row.
    """
    for row, _ in samples:
        if row.part != "train":
            raise DataError(
                f"verify: row {row.id} is a {row.part} row; expected training rows only: no others are cleaned"
            )
    llm, config = teacher.llm, teacher.config
    requests = [label_request(prompt, row.text, labels, config, policy=teacher.policy, sample=n) for row, n in samples]
    progress = (lambda done: on_done(done, len(samples))) if on_done else None
    names = [f"row {row.id}" for row, _ in samples]
    replies = ask_all(requests, llm, config.workers, progress, names=names, max_failed=config.max_failed)
    votes = [
        read_vote(row.id, reply, labels, teacher=llm.name, sample=sample)
        for (row, sample), reply in zip(samples, replies, strict=True)
    ]
    if usage_of(llm) is not None:
        votes = [_with_trace(*answered) for answered in zip(votes, requests, replies, strict=True)]
    # Synthetic rows may all be unknown to a recorded teacher; the given rows may not.
    if any(row.origin == "given" for row, _ in samples) and all(vote.status == "failed" for vote in votes):
        raise LLMError(
            f"verify: all {len(votes)} requests to {llm.name} failed, the first with: {votes[0].reason}; "
            "correct the model's section of the recipe, then run again"
        )
    return votes


def prompt_of(config: VerifyConfig) -> AskPrompt:
    """Select the prompt for the first votes."""
    return "verify" if config.answer == "reasoned" else "direct"


def _with_trace(vote: Vote, request: Request, reply: Reply) -> Vote:
    """Add the key of the answer in the trace store, which holds complete answers only."""
    return msgspec.structs.replace(vote, trace_key=key(vote.teacher, request)) if reply.status == "ok" else vote


def _further_votes(
    rows: Sequence[Example],
    labels: Sequence[str],
    config: VerifyConfig,
    teacher: Teacher,
    second: Teacher | None,
    on_done: OnDone | None,
) -> list[Vote]:
    """Ask for up to `more_calls` further votes on conflicting rows; none if the teacher is recorded."""
    once = [(row, 0) for row in rows[: config.more_calls]]
    if config.more == "second":
        assert second is not None
        return ask_votes(once, labels, "verify", teacher=second, on_done=on_done)
    if backend_of(teacher.config).is_recorded:
        return []
    if config.more == "votes":
        repeated = [(row, sample) for row in rows for sample in range(config.votes, config.votes + FURTHER_VOTES)]
        return ask_votes(repeated[: config.more_calls], labels, prompt_of(config), teacher=teacher, on_done=on_done)
    votes = ask_votes(once, labels, "verify", teacher=teacher, on_done=on_done)
    return [msgspec.structs.replace(vote, reasoned=True) for vote in votes]


def _counts(rows: Sequence[Example], votes: Sequence[Vote], labels: Sequence[str], teacher: str) -> Report:
    """Count the votes by status and label, and how often they differ from the given label."""
    given = {row.id: row.label for row in rows}
    status = Counter(vote.status for vote in votes)
    ok = [vote for vote in votes if vote.status == "ok"]
    confidences = [vote.confidence for vote in ok if vote.confidence is not None]
    by_label = Counter(vote.label for vote in ok)
    disagree = sum(vote.label != given[vote.id] for vote in ok)
    return {
        "teacher": teacher,
        "rows": len(rows),
        "asked": len(votes),
        **{name: status[name] for name in ("ok", "failed", "unreadable", "abstained")},
        "labels": {label: by_label[label] for label in labels},
        "mean_confidence": sum(confidences) / len(confidences) if confidences else None,
        "with_confidence": len(confidences),
        "disagree_with_given": disagree,
        "disagree_share": disagree / len(ok) if ok else None,
        "reasons": dict(Counter(vote.reason for vote in votes if vote.status != "ok").most_common(10)),
    }


def _step(name: str, votes: Sequence[Vote], before: Sequence[Vote], labels: Sequence[str]) -> Report:
    """Report the calls of a step, and on how many rows they changed the teachers' combined label."""
    ids = sorted({vote.id for vote in votes})
    earlier, all_votes = votes_of_rows(ids, before), votes_of_rows(ids, [*before, *votes])
    changes = Counter(_change(old, new, labels) for old, new in zip(earlier, all_votes, strict=True))
    return {
        "step": name,
        "rows": len(ids),
        "calls": len(votes),
        "ok": sum(vote.status == "ok" for vote in votes),
        **({"changed": changes["changed"], "confirmed": changes["confirmed"]} if before else {}),
    }


def _change(earlier: Sequence[Vote], all_votes: Sequence[Vote], labels: Sequence[str]) -> str:
    before, after = (belief_of(votes, labels) for votes in (earlier, all_votes))
    if not before.any() or not after.any():
        return "no label" if not after.any() else "changed"
    return "confirmed" if before.argmax() == after.argmax() else "changed"


def _why_none(config: VerifyConfig, teacher: Teacher) -> str:
    recorded = config.more != "second" and backend_of(teacher.config).is_recorded
    return "the recorded teacher has one answer a row" if recorded else "no row is left on which the sources differ"
