"""Sends batches from the queue to the engine, and handles the batches that fail."""

import asyncio
import logging
import math
import time
from collections.abc import Sequence

from hybrid.runtime.session_pool import TOKENS_A_BATCH
from serving.engine.ipc import BATCHES_AT_HAND
from serving.engine.process import EngineError, EngineLostError
from serving.engine.supervisor import EngineSupervisor, Quarantine
from serving.errors import EngineDownError, ServingError
from serving.interfaces import Observer
from serving.scheduler.admission import BatchCost, QueueLoad
from serving.scheduler.queue import Job, RequestQueue, Row

HOLD_S = 1.5
"""How long queued requests wait for a lost engine's successor before they fail."""
UNKNOWN_COST_LIMIT_S = 30.0
"""The time limit of a batch before the cost of batches is known."""
REPLIES_A_TURN = 4
"""Requests of a batch that are answered before the event loop looks at its sockets: a reply is half a millisecond of
work, and a probe or a refusal would wait for those of a whole batch."""
MAX_REASON_CHARS = 200
"""The most characters that are kept of the graph's error message."""

log = logging.getLogger(__name__)


class Dispatch:
    """Feeds an engine from a queue of requests. Lives on the event loop."""

    def __init__(
        self,
        engine: EngineSupervisor,
        cost: BatchCost,
        observer: Observer,
        *,
        hung_after_s: float,
        configured_batch_tokens: int,
    ) -> None:
        self._queue = RequestQueue()
        self._engine = engine
        self._cost = cost
        self._observer = observer
        self._hung_after_s = hung_after_s
        self._configured_batch_tokens = configured_batch_tokens
        self._quarantine = Quarantine()
        self._in_progress: set[asyncio.Task[None]] = set()
        self._n_in_engine = 0
        """The batches in the engine."""
        self._ends_at = 0.0
        """The time when all of them are expected to have run."""
        self._ended_at = 0.0
        """The time when the last batch had run."""
        self._giving_up: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to take batches from the queue."""
        self._task = asyncio.create_task(self._serve())

    async def stop(self) -> None:
        """Stop; waiting requests fail."""
        if self._giving_up:
            self._giving_up.cancel()
        tasks = [self._task, *self._in_progress] if self._task else []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._queue.fail_all(EngineDownError("the service stopped before this request was answered"))

    def submit(self, job: Job) -> None:
        """Queue the rows of a request; those in quarantine fail at once.

        Raises:
            EngineDownError: the engine was lost and its successor is not ready yet.
        """
        if not self._engine.is_up:
            raise _down()
        quarantined = [row for row in job.rows if self._quarantine.holds(row.ids)]
        self._queue.put(job, without=quarantined)
        for row in quarantined:
            job.fail_item(row, "the engine died of it twice")

    def withdraw(self, job: Job) -> None:
        """Drop a request: its waiting rows do not run."""
        self._queue.withdraw(job)
        job.release()

    def load(self) -> QueueLoad:
        """Sum up the work that the engine has now."""
        busy_s = max(self._ends_at - time.perf_counter(), 1e-9) if self._n_in_engine else 0.0
        return QueueLoad(queued_tokens=self._queue.tokens, busy_s=busy_s, batch_tokens=self._batch_tokens)

    def engine_changed(self, state: str) -> None:
        """React to a new state of the engine: requests that wait for a lost one fail after a while."""
        if self._giving_up and state == "ready":
            self._giving_up.cancel()
            self._giving_up = None
        elif state in ("dead", "hung") and self._giving_up is None:
            self._giving_up = asyncio.get_running_loop().call_later(HOLD_S, self._give_up)

    @property
    def _batch_tokens(self) -> int:
        return batch_tokens(self._configured_batch_tokens, self._engine.threads)

    def _give_up(self) -> None:
        self._giving_up = None
        self._queue.fail_all(_down())

    async def _serve(self) -> None:
        while True:
            await self._queue.not_empty()
            await self._engine.up()
            isolated = self._queue.has_isolated
            if len(self._in_progress) >= (1 if isolated else BATCHES_AT_HAND):
                await asyncio.wait(self._in_progress, return_when=asyncio.FIRST_COMPLETED)
            elif self._engine.is_up:  # it may have been lost before this task had its turn
                task = asyncio.create_task(self._run_guarded(self._queue.take(self._batch_tokens)))
                self._in_progress.add(task)
                task.add_done_callback(self._in_progress.discard)
                if isolated:  # where the engine dies meanwhile, nothing else was in it
                    await asyncio.wait([task])

    async def _run_guarded(self, rows: Sequence[Row]) -> None:
        try:
            await self._run(rows)
        except Exception as error:  # a bug in one batch must not stop the service
            log.exception("a batch failed in the service itself")
            for row in rows:
                row.job.fail(ServingError(f"the service failed on this request ({type(error).__name__})"))

    async def _run(self, rows: Sequence[Row]) -> None:
        """Run a batch; where the graph raises, run its halves, down to the row that it raises on."""
        groups = [rows]
        while groups:
            group = [row for row in groups.pop() if not row.job.done.done()]
            if not group:
                continue
            try:
                logits = await self._timed(group)
            except EngineError as error:
                if len(group) == 1:
                    log.warning("the engine fails on a text: %s", str(error)[:MAX_REASON_CHARS])
                    group[0].job.fail_item(group[0], "the graph raises; the log says why")
                else:
                    middle = len(group) // 2
                    groups += [group[middle:], group[:middle]]
            except EngineLostError:
                for waiting in groups:
                    self._queue.put_back(waiting)
                self._suspect(group)
                return
            else:
                await self._deliver(group, logits)

    async def _timed(self, rows: Sequence[Row]) -> list[list[float]]:
        lengths = [len(row.ids) for row in rows]
        tokens, padded = sum(lengths), max(lengths) * len(rows)
        for row in rows:
            row.job.start()
        began = time.perf_counter()
        self._ends_at = max(began, self._ends_at if self._n_in_engine else 0.0) + self._cost.batch_s(padded)
        limit_s = self._ends_at - began + self._hung_after_s if self._cost.known else UNKNOWN_COST_LIMIT_S
        self._n_in_engine += 1
        try:
            logits = await self._engine.run([row.ids for row in rows], limit_s=limit_s)
        finally:
            self._n_in_engine -= 1
            began, self._ended_at = max(began, self._ended_at), time.perf_counter()
        # Of two batches in the engine the second has it for itself once the first is through.
        seconds = self._ended_at - began
        self._cost.add(tokens, padded, seconds)
        self._observer.batch_ran(len(rows), tokens, padded, seconds)
        return logits

    async def _deliver(self, rows: Sequence[Row], logits: Sequence[list[float]]) -> None:
        undelivered = iter(zip(rows, logits, strict=True))
        try:
            for number, (row, values) in enumerate(undelivered, start=1):
                self._hand_over(row, values)
                if number % REPLIES_A_TURN == 0:
                    await asyncio.sleep(0)
        finally:  # even where this is cancelled in between, the answers have been computed
            for row, values in undelivered:
                self._hand_over(row, values)

    def _hand_over(self, row: Row, values: list[float]) -> None:
        self._quarantine.forgive(row.ids)
        if math.isfinite(sum(values)):
            row.job.deliver(row, values)
        else:
            row.job.fail_item(row, "a logit is not a number")

    def _suspect(self, rows: Sequence[Row]) -> None:
        """Run each row that was in the engine when it was lost in a batch of its own, to find the one at fault."""
        for row in rows:
            self._quarantine.note(row.ids, self._engine.n_lost)
        for row in rows:
            if self._quarantine.holds(row.ids):
                row.job.fail_item(row, "the engine died of it twice")
        self._queue.put_isolated([row for row in rows if not self._quarantine.holds(row.ids)])


def batch_tokens(configured: int, engine_threads: int) -> int:
    """The padded tokens of a full batch: as configured, or where that is 0, the runtime's share for each thread."""
    return configured or TOKENS_A_BATCH * engine_threads


def _down() -> EngineDownError:
    return EngineDownError("the engine was lost and is being restarted; try again in a second", retry_after_s=1)
