"""The decoder's client: equal questions share one call, every question has a deadline, and a decoder that fails is paused."""

import asyncio
import hashlib
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, Protocol, runtime_checkable

import msgspec

from hybrid.config import LLMConfig
from hybrid.errors import BudgetError, HybridError, LLMError
from hybrid.llm.request import LLM, FailureKind, Reply, Request
from hybrid.llm.tasks.label import label_request, read_vote
from hybrid.review.escalations import Outcome
from hybrid.types import Vote
from hybrid.urls import hide_user_info
from serving.decoder.breaker import Breaker
from serving.decoder.spend_cap import UnbookedCallError
from serving.interfaces import Observer
from serving.settings import DecoderSettings
from serving.types import NoLabelReason

FIRST_PATIENCE_S = 1.0
"""A decoder that has never answered counts as failing after this long without an answer."""
PATIENCE_FACTOR = 3.0
"""Later it counts as failing after this many times its usual answer time; a caller's shorter deadline is no failure."""
MAX_RATIONALE_CHARS = 4000
"""The most characters of a decoder's explanation that are passed on, cached and kept for review."""
MARGIN_S = 0.05
"""Reserved from a caller's time, so that the answer without the decoder still arrives in time."""
EMA_WEIGHT = 0.1
"""Weight of the newest answer time in the exponential moving average, which is the usual answer time."""
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
FAILURE_LOG_INTERVAL_S = 60.0
"""The time between two log lines of one reason: a decoder that fails, or a cap that is reached, concerns every text."""

_log = logging.getLogger(__name__)


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


class _InFlight(msgspec.Struct):
    """A question that is being asked."""

    deadline: SharedDeadline
    task: "asyncio.Task[DecoderResult]"


class DecoderClient:
    """Asks the decoder from the event loop; the calls block threads of a pool of its own."""

    def __init__(self, llm: LLM, settings: DecoderSettings, observer: Observer) -> None:
        """Ask `llm`; `settings` bound how often and how long."""
        self.model = llm.name
        self._llm = llm
        self._settings = settings
        self._observer = observer
        self._breaker = Breaker(
            failures=settings.breaker_failures, rest_s=settings.breaker_rest_s, on_change=observer.breaker_changed
        )
        self._pool = ThreadPoolExecutor(max_workers=settings.workers, thread_name_prefix="decoder")
        self._in_flight: dict[DecoderQuestion, _InFlight] = {}
        self._cache: OrderedDict[bytes, DecoderResult] = OrderedDict()
        self._usual_s: float | None = None
        self._logged_at: dict[NoLabelReason, float] = {}

    async def ask(self, question: DecoderQuestion, left_s: float) -> DecoderResult:
        """Return the decoder's result for a question within `left_s` seconds; a failure is a result too."""
        if (cached := self._from_cache(question)) is not None:
            self._observer.escalation_ended("cached", 0.0, 0.0)
            return cached
        wait_s = min(self._settings.deadline_ms / 1000, max(left_s - MARGIN_S, left_s / 2))
        in_flight = self._in_flight.get(question) or self._start(question, wait_s)
        if in_flight is None:
            return self._reported(DecoderResult(outcome="failed", reason="queue_full"))
        in_flight.deadline.until = max(in_flight.deadline.until, time.monotonic() + wait_s)
        done, _ = await asyncio.wait([in_flight.task], timeout=wait_s)
        if in_flight.task.cancelled():
            detail = "the service stopped before the decoder answered"
            return DecoderResult(outcome="failed", reason="timed_out", detail=detail)
        if done:
            return in_flight.task.result()
        detail = f"the decoder gave no answer within {wait_s:.2f} s"
        return DecoderResult(outcome="failed", reason="timed_out", detail=detail, seconds=wait_s)

    async def close(self, within_s: float) -> None:
        """Wait for the questions in flight, `within_s` at most: a thread in a call that does not end is left behind."""
        if self._in_flight:
            tasks = [in_flight.task for in_flight in self._in_flight.values()]
            _, unfinished = await asyncio.wait(tasks, timeout=within_s)
            for task in unfinished:
                task.cancel()
            if unfinished:
                _log.warning("the decoder %s: %d questions are unanswered", self.model, len(unfinished))
                await asyncio.wait(unfinished)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _start(self, question: DecoderQuestion, wait_s: float) -> _InFlight | None:
        """Start to ask a question; return None where too many are in flight."""
        if len(self._in_flight) >= self._settings.waiting:
            return None
        deadline = SharedDeadline(time.monotonic() + wait_s)
        in_flight = _InFlight(deadline, asyncio.create_task(self._run(question, deadline)))
        self._in_flight[question] = in_flight
        return in_flight

    async def _run(self, question: DecoderQuestion, deadline: SharedDeadline) -> DecoderResult:
        try:
            result = await self._ask_safely(question, deadline)
            if result.outcome in ("answered", "undecided"):
                self._to_cache(question, result)
            return self._reported(result)
        finally:
            del self._in_flight[question]

    async def _ask_safely(self, question: DecoderQuestion, deadline: SharedDeadline) -> DecoderResult:
        try:
            return await self._ask_model(question, deadline)
        except Exception as error:
            # Whatever a model's library raises: the encoder's answer must not be lost over it.
            _log.exception("the decoder %s", self.model)
            return DecoderResult(
                outcome="failed", reason="internal_error", detail=f"the decoder: {type(error).__name__}"
            )

    async def _ask_model(self, question: DecoderQuestion, deadline: SharedDeadline) -> DecoderResult:
        permit = self._breaker.admit()
        if permit is None:
            return DecoderResult(outcome="refused_by_breaker", reason="paused")
        started, loop = time.monotonic(), asyncio.get_running_loop()
        healthy: bool | None = None
        try:
            requests = requests_of(question, self._settings, self._settings.votes)
            calls = [loop.run_in_executor(self._pool, call, self._llm, request, deadline) for request in requests]
            outcomes = await asyncio.gather(*calls)
            healthy = self._health(outcomes)
        finally:
            self._breaker.report(permit, healthy)
        result = result_of(question, outcomes, self.model)
        if result.detail:
            self._log_failure(result)
        return msgspec.structs.replace(result, seconds=time.monotonic() - started)

    def _log_failure(self, result: DecoderResult) -> None:
        """Log why the decoder gave no answer; an answer that is no label may quote the text, and is not logged."""
        now = time.monotonic()
        due = self._logged_at.get(result.reason, -FAILURE_LOG_INTERVAL_S) + FAILURE_LOG_INTERVAL_S <= now
        if due and result.outcome != "undecided":
            self._logged_at[result.reason] = now
            _log.warning("%s", result.detail)

    def _health(self, outcomes: Sequence[CallOutcome]) -> bool | None:
        """Return whether the decoder works; None where these calls do not tell."""
        answered = [outcome for outcome in outcomes if outcome.reply is not None and outcome.reply.status != "failed"]
        if answered:
            self._learn(max(outcome.seconds for outcome in answered))
            return True
        called = [outcome for outcome in outcomes if outcome.tells_of_the_model]
        # A failure of a model in this process, or of a recorded one, concerns the text alone.
        if not called or not isinstance(self._llm, RemoteLLM):
            return None
        timed_out = all(outcome.reply and outcome.reply.failure == FailureKind.TIMED_OUT for outcome in called)
        had_time = max(outcome.seconds for outcome in called) >= self._patience_s()
        return None if timed_out and not had_time else False

    def _patience_s(self) -> float:
        patience_s = FIRST_PATIENCE_S if self._usual_s is None else PATIENCE_FACTOR * self._usual_s
        return min(patience_s, self._settings.deadline_ms / 1000 - MARGIN_S)

    def _learn(self, seconds: float) -> None:
        usual_s = seconds if self._usual_s is None else self._usual_s
        self._usual_s = (1 - EMA_WEIGHT) * usual_s + EMA_WEIGHT * seconds

    def _from_cache(self, question: DecoderQuestion) -> DecoderResult | None:
        key = cache_key(question)
        cached = self._cache.get(key)
        if cached is None:
            return None
        self._cache.move_to_end(key)
        return msgspec.structs.replace(cached, cached=True, cost_usd=0.0, seconds=0.0)

    def _to_cache(self, question: DecoderQuestion, result: DecoderResult) -> None:
        self._cache[cache_key(question)] = result
        while len(self._cache) > self._settings.cached_answers:
            self._cache.popitem(last=False)

    def _reported(self, result: DecoderResult) -> DecoderResult:
        self._observer.escalation_ended(result.outcome, result.seconds, result.cost_usd)
        return result


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
