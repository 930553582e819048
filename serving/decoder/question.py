"""One question to the decoder: its requests, how each call ended, and the result of all calls."""

import hashlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal, Protocol, runtime_checkable

import msgspec

from hybrid.config import LLMConfig
from hybrid.errors import BudgetError, HybridError, LLMError
from hybrid.llm.request import LLM, FailureKind, Reply, Request
from hybrid.llm.tasks.label import label_request, read_vote
from hybrid.review.escalations import Outcome
from hybrid.types import Vote
from hybrid.urls import hide_user_info
from serving.decoder.spend_cap import UnbookedCallError
from serving.types import NoLabelReason

MAX_RATIONALE_CHARS = 4000
"""The most characters of a decoder's explanation that are passed on, cached and kept for review."""
TEXT_STATUSES = (400, 403, 413, 422)
"""HTTP statuses by which a server, or a firewall before it, refuses a text, whatever other texts get."""
REASON_OF_FAILURE: Mapping[str, NoLabelReason] = {
    FailureKind.TIMED_OUT: "timed_out",
    FailureKind.NETWORK: "unreachable",
    FailureKind.RATE_LIMITED: "overloaded",
    FailureKind.SERVER_ERROR: "server_error",
    FailureKind.REJECTED: "unusable",
    FailureKind.UNREADABLE: "unreadable_answer",
    FailureKind.EMPTY: "unreadable_answer",
    FailureKind.NO_PRICE: "unpriced",
    FailureKind.NOT_ASKED: "unusable",
    FailureKind.NOT_RECORDED: "not_recorded",
    FailureKind.LOCAL_ERROR: "local_error",
    FailureKind.EXPIRED: "timed_out",
}
"""What callers are told of each kind of failure, unless it is of the text alone."""


class DecoderQuestion(msgspec.Struct, frozen=True, kw_only=True):
    """A question about which of the labels a text has. Equal questions share one answer."""

    text: str
    labels: tuple[str, ...]
    policy: str
    """What the labels mean: the labelling policy or the caller's instructions."""
    scope: str
    """Keeps apart questions whose answers must not be shared: the bundle's id, or "" for labels of the caller."""


class DecoderResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of the decoder's votes on a question."""

    outcome: Outcome
    vote: Vote | None = None
    """The vote to use, where the outcome is `answered`. With several votes it is one for the most frequent label, and its
    confidence is the share of the votes for that label."""
    votes: int = 1
    """The number of votes that were asked for."""
    shares: dict[str, float] = {}
    """The share of the votes by label; a label without votes is left out."""
    reason: NoLabelReason = ""
    """Why there is no label, as callers are told; empty where there is one."""
    detail: str = ""
    """What is known beyond it, for the operator alone."""
    cost_usd: float | None = 0.0
    """What the calls cost; None where the price is not known."""
    seconds: float = 0.0
    cached: bool = False
    """Whether an earlier result was used again."""


class SharedDeadline:
    """The moment until which anybody waits for a question; a later caller with the same question may extend it."""

    def __init__(self, until: float) -> None:
        """Set the moment, in seconds of `time.monotonic`."""
        self.until = until


class CallOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """How one call to the model ended."""

    status: Literal["replied", "unusable", "too_late", "refused_by_spend"]
    """unusable: the model raised an error. too_late: it was not called, since nobody waited any longer."""
    reply: Reply | None = None
    """Set where the status is `replied`; it may be a failed reply."""
    reason: NoLabelReason = ""
    """Why the model gave no answer, as callers are told; empty where it gave one, readable or not."""
    detail: str = ""
    """What is known beyond it, for the operator alone."""
    seconds: float = 0.0
    """How long the model had to answer."""

    @property
    def tells_of_the_model(self) -> bool:
        """Whether a failure is evidence about the model: it was called, and did not refuse the text alone."""
        if self.reason in ("text_refused", "unpriced"):
            return False
        return self.status in ("replied", "unusable")


@runtime_checkable
class RemoteLLM(Protocol):
    """A model on another server, whose calls end at a deadline."""

    def ask(self, request: Request, *, until: float = ...) -> Reply:
        """Return one answer, or why there is none, by `until` (seconds of `time.monotonic`)."""

    @property
    def where(self) -> str:
        """The server, for messages."""


def cache_key(question: DecoderQuestion) -> bytes:
    """A hash of a question: thousands of answers are cached, and their texts are long."""
    return hashlib.sha256(repr(msgspec.structs.astuple(question)).encode()).digest()


def requests_of(question: DecoderQuestion, config: LLMConfig, votes: int) -> list[Request]:
    """Build the requests of a question, one for each vote; they differ in the sample number alone."""
    return [
        label_request("decide", question.text, question.labels, config, policy=question.policy, sample=sample)
        for sample in range(votes)
    ]


def call(llm: LLM, request: Request, deadline: SharedDeadline) -> CallOutcome:
    """Ask the model once, in the calling thread; a remote call ends at the deadline."""
    started = time.monotonic()
    if started >= deadline.until:
        detail = "not asked: no caller was waiting any longer when its turn came"
        return CallOutcome(status="too_late", reason="timed_out", detail=detail)
    try:
        reply = llm.ask(request, until=deadline.until) if isinstance(llm, RemoteLLM) else llm.ask(request)
    except BudgetError as error:
        is_unbooked = isinstance(error, UnbookedCallError)
        reason: NoLabelReason = "spending_unbooked" if is_unbooked else "spend_cap_reached"
        return CallOutcome(status="refused_by_spend", reason=reason, detail=hide_user_info(str(error)))
    except HybridError as error:
        reason = _reason_of(error.failure, error.http_status) if isinstance(error, LLMError) else "unusable"
        return CallOutcome(status="unusable", reason=reason, detail=hide_user_info(str(error)))
    reason = "" if reply.status != "failed" else _reason_of(reply.failure or "", reply.http_status or 0)
    return CallOutcome(
        status="replied",
        reply=reply,
        reason=reason,
        detail=hide_user_info(reply.reason),
        seconds=time.monotonic() - started,
    )


def _reason_of(failure: str, http_status: int) -> NoLabelReason:
    if failure == FailureKind.REJECTED and http_status in TEXT_STATUSES:
        return "text_refused"
    return REASON_OF_FAILURE.get(failure, "unusable")


class NoLabel(msgspec.Struct, frozen=True, kw_only=True):
    """Why one call gave no label."""

    reason: NoLabelReason
    detail: str
    is_undecided: bool
    """Whether the model answered, and its answer is no label."""


def result_of(question: DecoderQuestion, outcomes: Sequence[CallOutcome], model: str) -> DecoderResult:
    """Reduce the calls about one question to a result: the most frequent label, or why there is none."""
    votes = [
        None
        if outcome.reply is None
        else read_vote(question.scope, outcome.reply, question.labels, teacher=model, sample=sample)
        for sample, outcome in enumerate(outcomes)
    ]
    cost_usd = _sum([outcome.reply.cost_usd for outcome in outcomes if outcome.reply is not None])
    labelled = [vote for vote in votes if vote is not None and vote.label is not None]
    if not labelled:
        return _without_label(outcomes, list(map(_no_label, outcomes, votes)), cost_usd)
    counts = Counter(str(vote.label) for vote in labelled)
    label, count = counts.most_common(1)[0]
    chosen = next(vote for vote in labelled if vote.label == label)
    chosen = msgspec.structs.replace(chosen, rationale=chosen.rationale[:MAX_RATIONALE_CHARS])
    if len(outcomes) > 1:
        chosen = msgspec.structs.replace(chosen, confidence=count / len(labelled))
    shares = {name: number / len(labelled) for name, number in counts.items()}
    return DecoderResult(outcome="answered", vote=chosen, votes=len(outcomes), shares=shares, cost_usd=cost_usd)


def _no_label(outcome: CallOutcome, vote: Vote | None) -> NoLabel:
    if outcome.reason or vote is None:
        return NoLabel(reason=outcome.reason, detail=outcome.detail, is_undecided=False)
    reasons: dict[str, NoLabelReason] = {
        "abstained": "declined",
        "unreadable": "unreadable_answer",
        "failed": "cut_off",
    }
    detail = hide_user_info(vote.reason)
    return NoLabel(reason=reasons[vote.status], detail=detail, is_undecided=vote.status != "failed")


def _without_label(
    outcomes: Sequence[CallOutcome], no_labels: Sequence[NoLabel], cost_usd: float | None
) -> DecoderResult:
    """Choose what to tell of several calls: that the model could not decide before why it was not asked."""
    is_sent = [outcome.status in ("replied", "unusable") for outcome in outcomes]
    order = sorted(range(len(outcomes)), key=lambda i: (not no_labels[i].is_undecided, not is_sent[i], i))
    first = no_labels[order[0]]
    statuses = {outcome.status for outcome in outcomes} - {"too_late"}
    outcome: Outcome = "refused_by_spend" if statuses == {"refused_by_spend"} else "failed"
    if any(no_label.is_undecided for no_label in no_labels):
        outcome = "undecided"
    return DecoderResult(outcome=outcome, reason=first.reason, detail=first.detail, cost_usd=cost_usd)


def _sum(costs: Sequence[float | None]) -> float | None:
    priced = [cost for cost in costs if cost is not None]
    return sum(priced) if len(priced) == len(costs) else None
