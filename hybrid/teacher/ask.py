"""The votes of a run's language models with their cost, and a function that collects the decoder's votes."""

from collections.abc import Callable, Sequence

import msgspec

from hybrid.config import LLMConfig
from hybrid.llm import LLM, backend_of, usage_of
from hybrid.runtime.decoder import LLMDecoder
from hybrid.types import Example, Report, Vote

OnDone = Callable[[int, int], None]
"""Progress callback: called with the number of answers so far and the total."""


class AskedVotes(msgspec.Struct, frozen=True, kw_only=True):
    """Votes, and a report of the statuses, calls, tokens and cost."""

    votes: list[Vote]
    report: Report


def ask_decoder(
    rows: Sequence[Example],
    labels: Sequence[str],
    *,
    decoder: LLM | None,
    llm: LLMConfig,
    policy: str,
    on_done: OnDone,
) -> AskedVotes:
    """Ask the decoder about rows; there are no votes if the recipe has no decoder."""
    if decoder is None:
        return AskedVotes(votes=[], report=usage_report(None, llm))
    answers = LLMDecoder(decoder, labels, policy=policy, config=llm).decide(
        [row.text for row in rows], on_done=lambda done: on_done(done, len(rows))
    )
    votes = [msgspec.structs.replace(vote, id=row.id) for vote, row in zip(answers, rows, strict=True)]
    return AskedVotes(votes=votes, report={"asked": len(rows)} | usage_report(decoder, llm, votes))


def usage_report(model: LLM | None, config: LLMConfig, votes: Sequence[Vote] = ()) -> Report:
    """Report the calls, tokens and cost of a model in this process.

    `complete` is False if a live model failed on rows, or gave answers that cannot be read: a later run asks them again.
    """
    usage = usage_of(model)
    live = usage is not None
    first_failure = next((vote.reason for vote in votes if vote.status == "failed"), "")
    return {
        "model": config.model,
        "recorded": backend_of(config).is_recorded,
        "calls": usage.calls if usage else 0,
        "hits": usage.hits if usage else 0,
        "input_tokens": usage.input_tokens if usage else 0,
        "output_tokens": usage.output_tokens if usage else 0,
        "cache_write_tokens": usage.cache_write_tokens if usage else 0,
        "cache_read_tokens": usage.cache_read_tokens if usage else 0,
        "odd_usage": usage.odd_usage if usage else 0,
        "budget_usd": config.budget_usd,
        "cost_usd": usage.cost_usd if usage else 0.0,
        "first_failure": first_failure,
        "complete": not (live and any(vote.status in ("failed", "unreadable") for vote in votes)),
    }
