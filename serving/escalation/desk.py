"""Where questions to the decoder wait: equal ones are asked once, all have an end, and a decoder that is down has rest."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from hybrid.llm.request import LLM
from serving.escalation.breaker import Breaker
from serving.escalation.questions import Asked, AsksUntil, Patience, Question, Ruling, ask, requests_of, rule
from serving.observer import Observer
from serving.settings import Decoder

UNKNOWN_PATIENCE_S = 1.0
"""A silent decoder is at fault where it had this long and has never answered yet, ..."""
USUAL_TIMES = 3.0
"""... or so many times as long as its answers usually take. A caller in a hurry is no fault of the decoder."""
MARGIN_S = 0.05
"""Kept back of what a caller still waits, to answer by the policy in time."""


_log = logging.getLogger(__name__)


class _Flight(msgspec.Struct):
    """A question under way."""

    patience: Patience
    task: "asyncio.Task[Ruling]"


class Desk:
    """Asks the decoder in threads of its own. Lives on the event loop."""

    def __init__(self, llm: LLM, settings: Decoder, observer: Observer) -> None:
        """Ask `llm`; `settings` bound how often and how long."""
        self.model = llm.name
        self._llm = llm
        self._settings = settings
        self._observer = observer
        self._breaker = Breaker(
            failures=settings.breaker_failures, rest_s=settings.breaker_rest_s, changed=observer.breaker_changed
        )
        self._pool = ThreadPoolExecutor(max_workers=settings.llm.workers, thread_name_prefix="decoder")
        self._flights: dict[Question, _Flight] = {}
        self._known: OrderedDict[Question, Ruling] = OrderedDict()
        self._usual_s: float | None = None

    async def rule(self, question: Question, left_s: float) -> Ruling:
        """Return what the decoder makes of a question, by `left_s` seconds from now at the latest."""
        if (known := self._remembered(question)) is not None:
            self._observer.escalation_ended("cached", 0.0, 0.0)
            return known
        wait_s = min(self._settings.timeout_ms / 1000, max(left_s - MARGIN_S, left_s / 2))
        flight = self._flights.get(question) or self._take_off(question, wait_s)
        if flight is None:
            return self._ended(Ruling(outcome="failed", reason="too many texts wait for the decoder"))
        flight.patience.until = max(flight.patience.until, time.monotonic() + wait_s)
        done, _ = await asyncio.wait([flight.task], timeout=wait_s)
        if done:
            return flight.task.result()
        return Ruling(outcome="failed", reason=f"the decoder gave no answer within {wait_s:.2f} s", seconds=wait_s)

    async def close(self) -> None:
        """Let the questions under way end; each has an end of its own."""
        if self._flights:
            await asyncio.wait([flight.task for flight in self._flights.values()])
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)

    def _take_off(self, question: Question, wait_s: float) -> _Flight | None:
        """Return the question under way; None where too many wait already."""
        if len(self._flights) >= self._settings.waiting:
            return None
        patience = Patience(time.monotonic() + wait_s)
        flight = _Flight(patience, asyncio.create_task(self._fly(question, patience)))
        self._flights[question] = flight
        return flight

    async def _fly(self, question: Question, patience: Patience) -> Ruling:
        try:
            ruling = await self._ruling(question, patience)
            if ruling.outcome in ("answered", "undecided"):
                self._remember(question, ruling)
            return self._ended(ruling)
        finally:
            del self._flights[question]

    async def _ruling(self, question: Question, patience: Patience) -> Ruling:
        try:
            return await self._ask(question, patience)
        except Exception as error:
            # Whatever a model's library raises: the encoder's answer must not be lost over it.
            _log.exception("the decoder %s", self.model)
            return Ruling(outcome="failed", reason=f"the decoder: {type(error).__name__}")

    async def _ask(self, question: Question, patience: Patience) -> Ruling:
        if not await self._breaker.admits():
            return Ruling(outcome="refused_by_breaker", reason="the decoder fails and is left alone for a while")
        started, loop = time.monotonic(), asyncio.get_running_loop()
        verdict: bool | None = None
        try:
            requests = requests_of(question, self._settings.llm, self._settings.votes)
            calls = [loop.run_in_executor(self._pool, ask, self._llm, request, patience) for request in requests]
            asked = await asyncio.gather(*calls)
            verdict = self._verdict(asked)
        finally:
            await self._breaker.ended(verdict)
        return msgspec.structs.replace(rule(question, asked, self.model), seconds=time.monotonic() - started)

    def _verdict(self, asked: Sequence[Asked]) -> bool | None:
        """Return whether the decoder works; None where these calls do not tell."""
        sent = [one for one in asked if one.reply is not None]
        served = [one for one in sent if one.reply is not None and one.reply.status != "failed"]
        if served:
            self._learn(max(one.given_s for one in served))
            return True
        # What fails in the process, or is not recorded, fails for the text alone.
        if not sent or not isinstance(self._llm, AsksUntil):
            return None
        given_s = max(one.given_s for one in sent)
        timed_out = all("timed out" in (one.reply.reason if one.reply else "") for one in sent)
        return None if timed_out and given_s < self._patience_s() else False

    def _patience_s(self) -> float:
        wanted = UNKNOWN_PATIENCE_S if self._usual_s is None else USUAL_TIMES * self._usual_s
        return min(wanted, self._settings.timeout_ms / 1000 - MARGIN_S)

    def _learn(self, seconds: float) -> None:
        self._usual_s = seconds if self._usual_s is None else 0.9 * self._usual_s + 0.1 * seconds

    def _remembered(self, question: Question) -> Ruling | None:
        known = self._known.get(question)
        if known is None:
            return None
        self._known.move_to_end(question)
        return msgspec.structs.replace(known, cached=True, cost_usd=0.0, seconds=0.0)

    def _remember(self, question: Question, ruling: Ruling) -> None:
        self._known[question] = ruling
        while len(self._known) > self._settings.cached_answers:
            self._known.popitem(last=False)

    def _ended(self, ruling: Ruling) -> Ruling:
        self._observer.escalation_ended(ruling.outcome, ruling.seconds, ruling.cost_usd)
        return ruling
