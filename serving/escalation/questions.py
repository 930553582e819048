"""One question to the decoder and what comes of it, in a thread of the decoder's own pool."""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import msgspec

from hybrid.config import LLMConfig
from hybrid.errors import BudgetError, HybridError
from hybrid.llm.request import LLM, Reply, Request
from hybrid.llm.tasks.label import label_request, read_vote
from hybrid.review.escalations import Outcome
from hybrid.types import Vote


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Which of the labels a text has."""

    text: str
    labels: tuple[str, ...]
    policy: str
    """What the labels mean."""
    scope: str
    """The bundle's id, or what else tells apart questions whose answers must not be shared."""


class Ruling(msgspec.Struct, frozen=True, kw_only=True):
    """What the decoder made of a question."""

    outcome: Outcome
    vote: Vote | None = None
    """Set where it answered. Of several votes the most frequent label; its confidence is then their share."""
    votes: int = 1
    """How often it was asked."""
    shares: dict[str, float] = {}
    """The share of the votes by label; only labels that got one."""
    reason: str = ""
    cost_usd: float | None = 0.0
    """None where the price is not known."""
    seconds: float = 0.0
    cached: bool = False


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """How one call to the model ended."""

    reply: Reply | None
    """None where it was not sent."""
    reason: str = ""
    by_spend: bool = False
    given_s: float = 0.0
    """How long the model had."""


class Patience:
    """How long the callers of a question still wait; a later caller may prolong it."""

    def __init__(self, until: float) -> None:
        """Wait until a moment of `time.monotonic`."""
        self.until = until


@runtime_checkable
class AsksUntil(Protocol):
    """A model behind a network, whose calls can be ended in time."""

    def ask(self, request: Request, *, until: float = ...) -> Reply:
        """Return one answer, or why there is none, by `until` (of `time.monotonic`)."""

    @property
    def where(self) -> str:
        """The server, for messages."""


def requests_of(question: Question, config: LLMConfig, votes: int) -> list[Request]:
    """Return what is asked: the same question once a vote."""
    return [
        label_request("decide", question.text, question.labels, config, policy=question.policy, sample=sample)
        for sample in range(votes)
    ]


def ask(llm: LLM, request: Request, patience: Patience) -> Asked:
    """Return how one call ended; blocks until then, and never much longer than anybody waits for it."""
    started = time.monotonic()
    if started >= patience.until:
        return Asked(reply=None, reason="not asked: nobody waited any longer when its turn came")
    try:
        reply = llm.ask(request, until=patience.until) if isinstance(llm, AsksUntil) else llm.ask(request)
    except BudgetError as error:
        return Asked(reply=None, reason=str(error), by_spend=True)
    except HybridError as error:
        return Asked(reply=Reply(status="failed", reason=str(error), model=llm.name, cost_usd=0.0), reason=str(error))
    return Asked(reply=reply, given_s=time.monotonic() - started)


def rule(question: Question, asked: Sequence[Asked], model: str) -> Ruling:
    """Return what the calls about one question come to."""
    votes = [
        read_vote(question.scope, one.reply, question.labels, teacher=model, sample=number)
        for number, one in enumerate(asked)
        if one.reply is not None
    ]
    cost = _total([one.reply.cost_usd for one in asked if one.reply is not None])
    labelled = [vote for vote in votes if vote.label is not None]
    if not labelled:
        return Ruling(outcome=_outcome(votes, asked), reason=_reason(votes, asked), cost_usd=cost)
    counts = Counter(str(vote.label) for vote in labelled)
    label, count = counts.most_common(1)[0]
    chosen = next(vote for vote in labelled if vote.label == label)
    if len(asked) > 1:
        chosen = msgspec.structs.replace(chosen, confidence=count / len(labelled))
    shares = {name: number / len(labelled) for name, number in counts.items()}
    return Ruling(outcome="answered", vote=chosen, votes=len(asked), shares=shares, cost_usd=cost)


def _outcome(votes: Sequence[Vote], asked: Sequence[Asked]) -> Outcome:
    if any(vote.status in ("abstained", "unreadable") for vote in votes):
        return "undecided"
    return "refused_by_spend" if not votes and any(one.by_spend for one in asked) else "failed"


def _reason(votes: Sequence[Vote], asked: Sequence[Asked]) -> str:
    said = [vote.reason for vote in votes if vote.status in ("abstained", "unreadable")]
    said += [vote.reason for vote in votes] + [one.reason for one in asked]
    return next((reason for reason in said if reason), "the decoder gave no answer")


def _total(costs: Sequence[float | None]) -> float | None:
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None
