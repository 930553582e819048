"""Prompt strategies: a model, whether it reasons first, and how many votes per row; and their answers on rows."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec
import numpy as np

from hybrid.config import LLMConfig
from hybrid.llm import LLM, Reply, ask_all, backend_of
from hybrid.llm.tasks.label import label_request, read_vote
from hybrid.types import Example, Row, Vote

Answer = Literal["reasoned", "direct"]
OnDone = Callable[[int, int], None]


class PromptStrategy(Row, frozen=True, kw_only=True):
    """One way of asking a model for the label of a row."""

    model: str
    answer: Answer
    votes: int

    @property
    def name(self) -> str:
        """The name in the printed table."""
        style = "chain of thought" if self.answer == "reasoned" else "direct"
        return style if self.votes == 1 else f"{style}, {self.votes} votes"


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """All answers of one strategy: the votes and replies of each row [n], in sample order."""

    strategy: PromptStrategy
    votes: list[list[Vote]]
    replies: list[list[Reply]]


class StrategyVotes(msgspec.Struct, frozen=True, kw_only=True):
    """The combined vote on each row: label [n] (None if absent), stated confidence and vote share [n] (nan if absent)."""

    labels: list[str | None]
    confidence: np.ndarray
    share: np.ndarray


def strategies_of(config: LLMConfig, votes: int) -> list[PromptStrategy]:
    """List the strategies to compare for one model, cheapest first; a recorded model has one."""
    model = config.model
    once = PromptStrategy(model=model, answer="reasoned", votes=1)
    if backend_of(config).is_recorded:
        return [once]
    several = [PromptStrategy(model=model, answer="reasoned", votes=votes)] if votes > 1 else []
    return [PromptStrategy(model=model, answer="direct", votes=1), once, *several]


def ask_strategies(
    rows: Sequence[Example],
    labels: Sequence[str],
    strategies: Sequence[PromptStrategy],
    *,
    teacher: LLM,
    llm: LLMConfig,
    policy: str,
    on_done: OnDone,
) -> list[Answers]:
    """Collect the answers of each strategy of one teacher; a request that several strategies share is sent once.

    The requests are those of the stage `verify`, so that a later run finds these answers in the trace store.
    """
    samples = sorted({(each.answer, sample) for each in strategies for sample in range(each.votes)})
    requests = [
        label_request("verify" if answer == "reasoned" else "direct", row.text, labels, llm, policy=policy, sample=n)
        for answer, n in samples
        for row in rows
    ]
    names = [f"row {row.id}" for _ in samples for row in rows]
    replies = ask_all(
        requests,
        teacher,
        llm.workers,
        lambda done: on_done(done, len(requests)),
        names=names,
        max_failed=llm.max_failed,
    )
    by_sample = {key: replies[i * len(rows) : (i + 1) * len(rows)] for i, key in enumerate(samples)}
    return [_answers(strategy, rows, labels, by_sample, teacher.name) for strategy in strategies]


def _answers(
    strategy: PromptStrategy,
    rows: Sequence[Example],
    labels: Sequence[str],
    by_sample: dict[tuple[Answer, int], list[Reply]],
    teacher: str,
) -> Answers:
    replies = [[by_sample[strategy.answer, sample][i] for sample in range(strategy.votes)] for i in range(len(rows))]
    votes = [
        [read_vote(row.id, reply, labels, teacher=teacher, sample=sample) for sample, reply in enumerate(of_row)]
        for row, of_row in zip(rows, replies, strict=True)
    ]
    return Answers(strategy=strategy, votes=votes, replies=replies)


def combine_votes(answers: Answers) -> StrategyVotes:
    """Combine the votes on each row: the most frequent label wins; mean confidence breaks ties."""
    combined = [_combined(votes) for votes in answers.votes]
    labels, confidence, share = zip(*combined, strict=True)
    return StrategyVotes(labels=list(labels), confidence=np.array(confidence), share=np.array(share))


def _combined(votes: Sequence[Vote]) -> tuple[str | None, float, float]:
    labelled = [vote for vote in votes if vote.status == "ok" and vote.label is not None]
    if not labelled:
        return None, np.nan, np.nan
    counts = Counter(vote.label for vote in labelled)
    label = max(counts, key=lambda name: (counts[name], _mean_confidence(labelled, name) or 0.0))
    confidence = _mean_confidence(labelled, label)
    share = counts[label] / len(votes) if len(votes) > 1 else np.nan
    return label, np.nan if confidence is None else confidence, share


def _mean_confidence(votes: Sequence[Vote], label: str | None) -> float | None:
    stated = [vote.confidence for vote in votes if vote.label == label and vote.confidence is not None]
    return sum(stated) / len(stated) if stated else None
