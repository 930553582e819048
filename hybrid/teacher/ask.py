"""What a recipe asks of its language models, and the books of it."""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from hybrid.config import LLMConfig, VerifyConfig
from hybrid.llm import LLM, usage_of
from hybrid.runtime.decoder import Decoder
from hybrid.teacher.vote_collection import Teacher, TrustedRows, collect_votes
from hybrid.types import Example, Report, Vote

OnDone = Callable[[int, int], None]


class AskedVotes(msgspec.Struct, frozen=True, kw_only=True):
    """The votes and the books: statuses, calls, tokens, cost."""

    votes: list[Vote]
    report: Report


def ask_teacher(
    rows: Sequence[Example],
    labels: Sequence[str],
    config: VerifyConfig,
    *,
    teacher: Teacher | None,
    second: Teacher | None,
    beliefs: Callable[[], np.ndarray],
    on_done: OnDone,
    trusted: TrustedRows | None = None,
) -> AskedVotes:
    """Return the teachers' blind votes on training rows; none where the recipe has no teacher."""
    if teacher is None:
        return AskedVotes(votes=[], report={"asked": 0, "ok": 0} | books(None, LLMConfig()))
    found = collect_votes(
        rows, labels, config, teacher=teacher, second=second, beliefs=beliefs, on_done=on_done, trusted=trusted
    )
    report = found.report | books(teacher.llm, teacher.config, found.votes)
    if second is not None:
        report["second"] = books(second.llm, second.config, found.votes)
    return AskedVotes(votes=found.votes, report=report)


def ask_decoder(
    rows: Sequence[Example],
    labels: Sequence[str],
    *,
    decoder: LLM | None,
    llm: LLMConfig,
    policy: str,
    on_done: OnDone,
) -> AskedVotes:
    """Return the decoder's votes on rows under their ids; none where the recipe has no decoder."""
    if decoder is None:
        return AskedVotes(votes=[], report=books(None, llm))
    found = Decoder(decoder, labels, policy=policy, config=llm).decide(
        [row.text for row in rows], on_done=lambda done: on_done(done, len(rows))
    )
    votes = [msgspec.structs.replace(vote, id=row.id) for vote, row in zip(found, rows, strict=True)]
    return AskedVotes(votes=votes, report={"asked": len(rows)} | books(decoder, llm, votes))


def books(model: LLM | None, config: LLMConfig, votes: Sequence[Vote] = ()) -> Report:
    """Return what a model's answers came to in this process.

    `complete` is False where a live model failed on rows that it may answer another time.
    """
    usage = usage_of(model)
    live = usage is not None
    failed = next((vote.reason for vote in votes if vote.status == "failed"), "")
    return {
        "model": config.model,
        "recorded": config.model == "recorded",
        "calls": usage.calls if usage else 0,
        "hits": usage.hits if usage else 0,
        "input_tokens": usage.input_tokens if usage else 0,
        "output_tokens": usage.output_tokens if usage else 0,
        "cache_write_tokens": usage.cache_write_tokens if usage else 0,
        "cache_read_tokens": usage.cache_read_tokens if usage else 0,
        "budget_usd": config.budget_usd,
        "cost_usd": usage.cost_usd if usage else 0.0,
        "first_failure": failed,
        "complete": not (live and failed),
    }
