"""A way of asking: a model, whether it reasons first, and how many answers a row. What one came to on the rows."""

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
    """One way of asking the teacher about a row."""

    model: str
    answer: Answer
    votes: int

    @property
    def name(self) -> str:
        """What the table calls it."""
        thought = "chain of thought" if self.answer == "reasoned" else "direct"
        return thought if self.votes == 1 else f"{thought}, {self.votes} votes"


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """All answers of one way: for each row [n] its votes and replies, in sample order."""

    way: PromptStrategy
    votes: list[list[Vote]]
    replies: list[list[Reply]]


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a way says of the rows: label [n] (None where it has none), stated confidence and vote share [n], nan if absent."""

    labels: list[str | None]
    confidence: np.ndarray
    share: np.ndarray


def strategies_of(config: LLMConfig, votes: int) -> list[PromptStrategy]:
    """Return the ways that are compared for one model, cheapest first; a recorded one answered one way, once."""
    model = config.model
    once = PromptStrategy(model=model, answer="reasoned", votes=1)
    if backend_of(config).is_recorded:
        return [once]
    several = [PromptStrategy(model=model, answer="reasoned", votes=votes)] if votes > 1 else []
    return [PromptStrategy(model=model, answer="direct", votes=1), once, *several]


def ask_strategies(
    rows: Sequence[Example],
    labels: Sequence[str],
    ways: Sequence[PromptStrategy],
    *,
    teacher: LLM,
    llm: LLMConfig,
    policy: str,
    on_done: OnDone,
) -> list[Answers]:
    """Return the answers of each way of one teacher. Each question is asked once, by whichever way needs it.

    The requests are those of the stage `verify`, so a run that follows finds these answers in the trace store.
    """
    asked = sorted({(way.answer, sample) for way in ways for sample in range(way.votes)})
    requests = [
        label_request("verify" if answer == "reasoned" else "direct", row.text, labels, llm, policy=policy, sample=n)
        for answer, n in asked
        for row in rows
    ]
    replies = ask_all(requests, teacher, llm.workers, lambda done: on_done(done, len(requests)))
    found = {key: replies[i * len(rows) : (i + 1) * len(rows)] for i, key in enumerate(asked)}
    return [_answers(way, rows, labels, found, teacher.name) for way in ways]


def _answers(
    way: PromptStrategy,
    rows: Sequence[Example],
    labels: Sequence[str],
    found: dict[tuple[Answer, int], list[Reply]],
    teacher: str,
) -> Answers:
    replies = [[found[way.answer, sample][i] for sample in range(way.votes)] for i in range(len(rows))]
    votes = [
        [read_vote(row.id, reply, labels, teacher=teacher, sample=sample) for sample, reply in enumerate(of_row)]
        for row, of_row in zip(rows, replies, strict=True)
    ]
    return Answers(way=way, votes=votes, replies=replies)


def what_it_says(answers: Answers) -> Said:
    """Return label, confidence and vote share of each row: the most frequent label, among tied ones the surest."""
    spoken = [_said(votes) for votes in answers.votes]
    labels, confidence, share = zip(*spoken, strict=True)
    return Said(labels=list(labels), confidence=np.array(confidence), share=np.array(share))


def _said(votes: Sequence[Vote]) -> tuple[str | None, float, float]:
    said = [vote for vote in votes if vote.status == "ok" and vote.label is not None]
    if not said:
        return None, np.nan, np.nan
    counts = Counter(vote.label for vote in said)
    label = max(counts, key=lambda name: (counts[name], _mean_confidence(said, name) or 0.0))
    confidence = _mean_confidence(said, label)
    share = counts[label] / len(votes) if len(votes) > 1 else np.nan
    return label, np.nan if confidence is None else confidence, share


def _mean_confidence(votes: Sequence[Vote], label: str | None) -> float | None:
    stated = [vote.confidence for vote in votes if vote.label == label and vote.confidence is not None]
    return sum(stated) / len(stated) if stated else None
