"""From the line to the engine and back: the batches under way, and what becomes of one that fails."""

import asyncio
import logging
import math
import time
from collections.abc import Sequence

from serving.engine.ipc import BATCHES_AT_HAND
from serving.engine.process import EngineError, EngineLostError
from serving.engine.supervisor import EngineSupervisor, Quarantine
from serving.errors import EngineDownError, ServingError
from serving.interfaces import Observer
from serving.scheduler.cost import BatchCost
from serving.scheduler.queue import Job, RequestQueue, Row

HOLD_S = 1.5
"""How long requests in the line wait for a lost engine's successor before they are given up."""
FIRST_S = 30.0
"""The most that a batch may take while it is not known what a batch takes."""
REPLIES_A_TURN = 4
"""Requests of a batch that go on before the event loop looks at its sockets: a reply is half a millisecond of work, and
behind those of a whole batch a probe or a refusal would wait for tens of them."""
LONGEST_REASON = 200
"""Characters of what the graph says."""

log = logging.getLogger(__name__)


class Dispatch:
    """Feeds an engine from a line. Lives on the event loop."""

    def __init__(self, engine: EngineSupervisor, cost: BatchCost, observer: Observer, *, hung_after_s: float) -> None:
        self.line = RequestQueue()
        self.most_tokens = 0
        """Padded tokens of a batch; set once the engine has said how many threads it has."""
        self._engine = engine
        self._cost = cost
        self._observer = observer
        self._hung_after_s = hung_after_s
        self._blame = Quarantine()
        self._under_way: set[asyncio.Task[None]] = set()
        self._in_engine = 0
        """Batches."""
        self._ends_at = 0.0
        """When all of them are expected to have run."""
        self._ended_at = 0.0
        """When the last one had."""
        self._giving_up: asyncio.TimerHandle | None = None
        self._work: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to take batches from the line."""
        self._work = asyncio.create_task(self._serve())

    async def stop(self) -> None:
        """End; what still waits is given up."""
        if self._giving_up:
            self._giving_up.cancel()
        tasks = [self._work, *self._under_way] if self._work else []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self.line.fail_all(EngineDownError("the service stopped before this request was answered"))

    def submit(self, job: Job) -> None:
        """Let a request wait for its batches.

        Raises:
            EngineDownError: the engine was lost and its successor is not there yet.
        """
        if not self._engine.is_up:
            raise _down()
        blamed = [row for row in job.rows if self._blame.holds(row.ids)]
        self.line.put(job, without=blamed)
        for row in blamed:
            job.fail_item(row, "the engine died of it twice")

    def busy_s(self) -> float:
        """Return the seconds that the batches under way are expected to need still; 0 where none is."""
        return max(self._ends_at - time.perf_counter(), 1e-9) if self._in_engine else 0.0

    def engine_changed(self, state: str) -> None:
        """Hear what became of the engine."""
        if self._giving_up and state == "ready":
            self._giving_up.cancel()
            self._giving_up = None
        elif state in ("dead", "hung") and self._giving_up is None:
            self._giving_up = asyncio.get_running_loop().call_later(HOLD_S, self._give_up)

    def _give_up(self) -> None:
        self._giving_up = None
        self.line.fail_all(_down())

    async def _serve(self) -> None:
        while True:
            await self.line.filled()
            await self._engine.up()
            alone = self.line.has_alone
            if len(self._under_way) >= (1 if alone else BATCHES_AT_HAND):
                await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
            elif self._engine.is_up:  # it may have been lost before this task had its turn
                task = asyncio.create_task(self._run_guarded(self.line.take(self.most_tokens)))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)
                if alone:  # where the engine dies meanwhile, nothing else was in it
                    await asyncio.wait([task])

    async def _run_guarded(self, rows: Sequence[Row]) -> None:
        try:
            await self._run(rows)
        except Exception as error:  # one request that goes wrong must not end the service of all
            log.exception("a batch failed in the service itself")
            for row in rows:
                row.job.fail(ServingError(f"the service failed on this request ({type(error).__name__})"))

    async def _run(self, rows: Sequence[Row]) -> None:
        """Run a batch; where the graph raises, run its halves, until the row that it raises on is alone."""
        groups = [rows]
        while groups:
            group = [row for row in groups.pop() if not row.job.done.done()]
            if not group:
                continue
            try:
                logits = await self._timed(group)
            except EngineError as error:
                if len(group) == 1:
                    group[0].job.fail_item(group[0], str(error)[:LONGEST_REASON])
                else:
                    middle = len(group) // 2
                    groups += [group[middle:], group[:middle]]
            except EngineLostError:
                for waiting in groups:
                    self.line.put_back(waiting)
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
        self._ends_at = max(began, self._ends_at if self._in_engine else 0.0) + self._cost.batch_s(padded)
        limit_s = self._ends_at - began + self._hung_after_s if self._cost.known else FIRST_S
        self._in_engine += 1
        try:
            logits = await self._engine.run([row.ids for row in rows], limit_s=limit_s)
        finally:
            self._in_engine -= 1
            began, self._ended_at = max(began, self._ended_at), time.perf_counter()
        # Of two batches in the engine the second has it for itself once the first is through.
        seconds = self._ended_at - began
        self._cost.add(tokens, padded, seconds)
        self._observer.batch_ran(len(rows), tokens, padded, seconds)
        return logits

    async def _deliver(self, rows: Sequence[Row], logits: Sequence[list[float]]) -> None:
        left = iter(zip(rows, logits, strict=True))
        try:
            for number, (row, values) in enumerate(left, start=1):
                self._hand_over(row, values)
                if number % REPLIES_A_TURN == 0:
                    await asyncio.sleep(0)
        finally:  # where this is cancelled in between, the answers are there all the same
            for row, values in left:
                self._hand_over(row, values)

    def _hand_over(self, row: Row, values: list[float]) -> None:
        self._blame.forgive(row.ids)
        if math.isfinite(sum(values)):
            row.job.deliver(row, values)
        else:
            row.job.fail_item(row, "a logit is not a number")

    def _suspect(self, rows: Sequence[Row]) -> None:
        """Have each row that was in the engine when it was lost run alone, so that the one at fault shows."""
        for row in rows:
            self._blame.note(row.ids, self._engine.n_lost)
        for row in rows:
            if self._blame.holds(row.ids):
                row.job.fail_item(row, "the engine died of it twice")
        self.line.put_alone([row for row in rows if not self._blame.holds(row.ids)])


def _down() -> EngineDownError:
    return EngineDownError("the engine was lost and is being started again; come again in a second", retry_after_s=1)
