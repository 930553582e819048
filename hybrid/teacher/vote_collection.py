"""Where a teacher's calls go: first votes where they are affordable, then more of them where the sources differ."""

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from hybrid.config import LLMConfig, VerifyConfig
from hybrid.llm import LLM
from hybrid.stages.verify import AskPrompt, ask_votes, prompt_of, report_votes
from hybrid.teacher.row_selection import belief_of, by_disagreement, by_uncertainty, trusted_first, votes_of_rows
from hybrid.types import Example, Report, Vote

REASONED = ", reasoned"
FURTHER_VOTES = 2
"""More votes that one row gets: with a first one they make a majority."""
OnDone = Callable[[int, int], None]


class Teacher(msgspec.Struct, frozen=True, kw_only=True):
    """A language model that labels, its section of the recipe, and the text of its labelling policy."""

    llm: LLM
    config: LLMConfig
    policy: str = ""


class TrustedRows(msgspec.Struct, frozen=True):
    """The ids of the rows whose label is known, and what repair makes of all rows by them before a teacher spoke."""

    ids: frozenset[str]
    repaired: Callable[[], np.ndarray]
    """Returns class probabilities [n, k]; called only where the first votes are not for every row."""


class CollectedVotes(msgspec.Struct, frozen=True, kw_only=True):
    """The votes, in row order, the first ones before the further ones, and the counts of each step."""

    votes: list[Vote]
    report: Report


def orders_rows(config: VerifyConfig, trusted: TrustedRows | None) -> bool:
    """Return whether a classifier is needed to say which rows are asked about; for the first votes repair says it too."""
    return bool(config.more_calls or (config.max_calls and trusted is None))


def collect_votes(
    rows: Sequence[Example],
    labels: Sequence[str],
    config: VerifyConfig,
    *,
    teacher: Teacher,
    second: Teacher | None,
    beliefs: Callable[[], np.ndarray],
    on_done: OnDone,
    trusted: TrustedRows | None = None,
) -> CollectedVotes:
    """Return the votes that the recipe's calls buy, asked where they are worth most.

    `beliefs` returns class probabilities [n, k] of the rows from a classifier that never saw the row's own label;
    it is called only where an order is needed.

    Raises: as `hybrid.stages.verify.verify`.
    """
    given = np.array([labels.index(row.label) for row in rows])
    probs = beliefs() if orders_rows(config, trusted) else np.zeros((len(rows), len(labels)))
    chosen = _chosen(rows, given, probs, config, trusted)
    first = _first_votes([rows[i] for i in chosen], labels, config, teacher, on_done)
    steps = [_step("first votes", first, [], labels)]
    further: list[Vote] = []
    if config.more_calls:
        order = by_disagreement(given, probs, votes_of_rows([row.id for row in rows], first), labels)
        further = _further_votes([rows[i] for i in order], labels, config, teacher, second, on_done)
        step = _step(config.more, further, first, labels)
        steps.append(step | {"conflicting": len(order), "reason": _why_none(config, teacher) if not further else ""})
    votes = [vote for both in _by_row(rows, first, further) for vote in both]
    report = report_votes(rows, votes, labels, teacher.llm.name)
    return CollectedVotes(
        votes=votes, report=report | {"not_asked": len(rows) - len({vote.id for vote in votes}), "steps": steps}
    )


def _chosen(
    rows: Sequence[Example], given: np.ndarray, probs: np.ndarray, config: VerifyConfig, trusted: TrustedRows | None
) -> list[int]:
    """Return the rows that the first votes are about, in row order: all, or those that `max_calls` is enough for."""
    if not config.max_calls:
        return list(range(len(rows)))
    affordable = config.max_calls // config.votes
    if trusted is None:
        order = by_uncertainty(given, probs)
    else:
        is_trusted = np.array([row.id in trusted.ids for row in rows])
        order = trusted_first(by_uncertainty(given, trusted.repaired()), is_trusted, affordable)
    return sorted(int(i) for i in order[:affordable])


def _first_votes(
    rows: Sequence[Example],
    labels: Sequence[str],
    config: VerifyConfig,
    teacher: Teacher,
    on_done: OnDone,
) -> list[Vote]:
    asked = [(row, sample) for row in rows for sample in range(config.votes)]
    return _ask(asked, labels, prompt_of(config), teacher, on_done)


def _further_votes(
    rows: Sequence[Example],
    labels: Sequence[str],
    config: VerifyConfig,
    teacher: Teacher,
    second: Teacher | None,
    on_done: OnDone,
) -> list[Vote]:
    """Return the votes that `more_calls` buys on conflicting rows; a recorded teacher has no more to give."""
    if config.more == "second":
        assert second is not None
        return _ask([(row, 0) for row in rows[: config.more_calls]], labels, "verify", second, on_done)
    if teacher.config.model == "recorded":
        return []
    if config.more == "votes":
        samples = range(config.votes, config.votes + FURTHER_VOTES)
        asked = [(row, sample) for row in rows for sample in samples]
        return _ask(asked[: config.more_calls], labels, prompt_of(config), teacher, on_done)
    votes = _ask([(row, 0) for row in rows[: config.more_calls]], labels, "verify", teacher, on_done)
    return [reasoned(vote) for vote in votes]


def reasoned(vote: Vote) -> Vote:
    """Return a vote as that of another source: reasoned answers are right more or less often than direct ones."""
    return msgspec.structs.replace(vote, teacher=vote.teacher + REASONED)


def model_of(vote: Vote) -> str:
    """Return the name that the model of a vote is asked by."""
    return vote.teacher.removesuffix(REASONED)


def _ask(
    asked: Sequence[tuple[Example, int]], labels: Sequence[str], prompt: AskPrompt, teacher: Teacher, on_done: OnDone
) -> list[Vote]:
    return ask_votes(
        asked,
        labels,
        prompt,
        teacher=teacher.llm,
        llm=teacher.config,
        policy=teacher.policy,
        on_done=lambda done: on_done(done, len(asked)),
    )


def _step(name: str, votes: Sequence[Vote], before: Sequence[Vote], labels: Sequence[str]) -> Report:
    """Return what a step asked, and on how many rows the teachers' common label is another with it."""
    ids = sorted({vote.id for vote in votes})
    old, new = votes_of_rows(ids, before), votes_of_rows(ids, [*before, *votes])
    changes = Counter(_change(was, now, labels) for was, now in zip(old, new, strict=True))
    return {
        "step": name,
        "rows": len(ids),
        "calls": len(votes),
        "ok": sum(vote.status == "ok" for vote in votes),
        **({"changed": changes["changed"], "confirmed": changes["confirmed"]} if before else {}),
    }


def _change(before: Sequence[Vote], after: Sequence[Vote], labels: Sequence[str]) -> str:
    was, now = (belief_of(votes, labels) for votes in (before, after))
    if not was.any() or not now.any():
        return "unheard" if not now.any() else "changed"
    return "confirmed" if was.argmax() == now.argmax() else "changed"


def _why_none(config: VerifyConfig, teacher: Teacher) -> str:
    recorded = config.more != "second" and teacher.config.model == "recorded"
    return "the recorded teacher has one answer a row" if recorded else "no row is left on which the sources differ"


def _by_row(rows: Sequence[Example], first: Sequence[Vote], further: Sequence[Vote]) -> list[list[Vote]]:
    return votes_of_rows([row.id for row in rows], [*first, *further])
