"""Restarts the engine whenever it is lost, and quarantines texts that have killed it twice."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence

from hybrid.errors import BundleError
from serving.engine.ipc import Open
from serving.engine.process import EngineLostError, EngineProcess

RESTARTS_AT_ONCE = 2
"""Deaths after which the engine restarts without a pause: a text that kills it does so twice before it is known."""
RECENT_S = 60.0
"""Deaths older than this do not count."""
FIRST_PAUSE_S = 0.25
MAX_PAUSE_S = 10.0
"""A repaired machine waits no longer than this for its engine."""
MAX_DEATHS = 2
"""Deaths with a text in the engine after which the text is quarantined."""
FORGIVEN_AFTER_S = 600.0
"""Deaths older than this do not count: an engine may be killed from outside, twice, with the same harmless text."""
MAX_SUSPECTS = 1000
"""The most texts that are remembered."""

Verify = Callable[[EngineProcess], Awaitable[None]]
"""Raises BundleError where the engine computes something else than it should."""
Changed = Callable[[str, str], None]
"""Called with a state (starting, ready, dead, hung) and its reason."""


class EngineSupervisor:
    """One engine process at a time. Lives on the event loop."""

    def __init__(self, graph: Open, *, verify: Verify, changed: Changed) -> None:
        self.threads = 1
        """Threads of the engine that is up, or was last."""
        self.n_lost = 0
        """Engines that died or hung so far."""
        self._graph = graph
        self._verify = verify
        self._changed = changed
        self._process: EngineProcess | None = None
        self._dying: EngineProcess | None = None
        self._up = asyncio.Event()
        self._deaths: deque[float] = deque(maxlen=32)
        self._restarting: asyncio.Task[None] | None = None
        self._stopped = False

    @property
    def is_up(self) -> bool:
        """Whether an engine would take a batch now."""
        return self._process is not None

    @property
    def pid(self) -> int | None:
        """The process id of the engine; None while there is none."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start an engine, open the graph and verify it.

        Raises:
            BundleError: the graph cannot be run, computes something else than it should, or kills its process.
        """
        try:
            await self._open()
        except EngineLostError as error:
            raise BundleError(
                f"{self._graph.model}: the engine was {error} before it had opened the graph; is there memory enough?"
            ) from error

    async def up(self) -> None:
        """Wait until an engine is up."""
        await self._up.wait()

    async def run(self, rows: Sequence[list[int]], *, limit_s: float) -> list[list[float]]:
        """Return the logits [n_labels] of each row of token ids, and then those of its tokens where there is an evidence head.

        Raises:
            EngineError: the graph raised.
            EngineLostError: there is no engine, or it died or hung on this batch; another one starts.
        """
        if self._process is None:
            raise EngineLostError("dead")
        return await self._process.run(rows, limit_s=limit_s)

    async def stop(self) -> None:
        """Stop the engine for good; its process is gone once this returns."""
        self._stopped = True
        self._up.clear()
        if self._restarting:
            self._restarting.cancel()
            await asyncio.wait([self._restarting])
        process, self._process = self._process, None
        if process:
            await process.stop()
        if self._dying:
            await self._dying.kill()

    async def _open(self) -> None:
        process = await EngineProcess.start(self._graph)
        try:
            await self._verify(process)
        except BaseException:
            await process.kill()
            raise
        self._process, self.threads = process, process.threads
        self._up.set()
        self._changed("ready", "")
        process.when_lost(self._lose)

    def _lose(self, reason: str) -> None:
        self._dying, self._process = self._process, None
        self._up.clear()
        self.n_lost += 1
        self._deaths.append(time.monotonic())
        self._changed(reason, "")
        if not self._stopped:
            self._restarting = asyncio.create_task(self._restart())

    async def _restart(self) -> None:
        if self._dying:
            await self._dying.kill()
            self._dying = None
        while not self.is_up:
            await asyncio.sleep(pause_s(self._deaths, time.monotonic()))
            self._changed("starting", "")
            try:
                await self._open()
            except (BundleError, EngineLostError, OSError) as error:
                self._deaths.append(time.monotonic())
                self._changed("dead", str(error))


def pause_s(deaths: Sequence[float], now: float) -> float:
    """The seconds to wait before the next start, given the times of past deaths: it doubles with each recent one."""
    n_recent = sum(now - death < RECENT_S for death in deaths)
    if n_recent <= RESTARTS_AT_ONCE:
        return 0.0
    return min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (n_recent - RESTARTS_AT_ONCE - 1))


class Quarantine:
    """Counts the engine's deaths by the texts that it had; texts are stored as the hash of their tokens."""

    def __init__(self) -> None:
        self._deaths: OrderedDict[int, dict[int, float]] = OrderedDict()

    def note(self, ids: Sequence[int], death: int) -> None:
        """Record that the engine had this text at its `death`-th death; it counts once however often it was there."""
        self._deaths.setdefault(hash(tuple(ids)), {})[death] = time.monotonic()
        while len(self._deaths) > MAX_SUSPECTS:
            self._deaths.popitem(last=False)

    def forgive(self, ids: Sequence[int]) -> None:
        """Forget a text that the engine has answered."""
        if self._deaths:
            self._deaths.pop(hash(tuple(ids)), None)

    def holds(self, ids: Sequence[int]) -> bool:
        """Whether the text was in the engine at as many recent deaths as are allowed."""
        if not self._deaths:
            return False
        oldest = time.monotonic() - FORGIVEN_AFTER_S
        return sum(at > oldest for at in self._deaths.get(hash(tuple(ids)), {}).values()) >= MAX_DEATHS
