"""The decoder's client: equal questions share one call, every question has a deadline, and a decoder that fails is paused."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from hybrid.llm.request import LLM, FailureKind
from serving.decoder.breaker import Breaker
from serving.decoder.question import (
    CallOutcome,
    DecoderQuestion,
    DecoderResult,
    RemoteLLM,
    SharedDeadline,
    cache_key,
    call,
    requests_of,
    result_of,
)
from serving.interfaces import Observer
from serving.settings import DecoderSettings
from serving.types import NoLabelReason

FIRST_PATIENCE_S = 1.0
"""A decoder that has never answered counts as failing after this long without an answer."""
PATIENCE_FACTOR = 3.0
"""Later it counts as failing after this many times its usual answer time; a caller's shorter deadline is no failure."""
MARGIN_S = 0.05
"""Reserved from a caller's time, so that the answer without the decoder still arrives in time."""
EMA_WEIGHT = 0.1
"""Weight of the newest answer time in the exponential moving average, which is the usual answer time."""
FAILURE_LOG_INTERVAL_S = 60.0
"""The time between two log lines of one reason: a decoder that fails, or a cap that is reached, concerns every text."""

_log = logging.getLogger(__name__)


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
