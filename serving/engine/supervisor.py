"""An engine that is restarted whenever it is lost, and the texts that must not kill it again."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence

from hybrid.errors import BundleError
from serving.engine.ipc import Open
from serving.engine.process import EngineLostError, EngineProcess

Prove = Callable[[EngineProcess], Awaitable[None]]
"""Raises BundleError where the engine computes something else than it should."""
Changed = Callable[[str, str], None]
"""Called with a state (ready, dead, hung, starting) and its reason."""


class EngineSupervisor:
    """One engine process at a time. Lives on the event loop."""

    def __init__(self, graph: Open, *, prove: Prove, changed: Changed) -> None:
        self.threads = 1
        self.n_lost = 0
        """Engines that died or hung so far."""
        self._graph = graph
        self._prove = prove
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
        """The number of its process; None while there is none."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Open the graph and prove it.

        Raises:
            BundleError: the graph cannot be run, computes something else, or ends its process.
        """
        try:
            await self._open()
        except EngineLostError as error:
            raise BundleError(
                f"{self._graph.model}: the engine was {error} before it had opened the graph; is there memory enough?"
            ) from error

    async def up(self) -> None:
        """Wait until there is an engine."""
        await self._up.wait()

    async def run(self, rows: Sequence[list[int]], *, limit_s: float) -> list[list[float]]:
        """Return the logits of each row of token ids.

        Raises:
            EngineError: the graph raised.
            EngineLostError: there is no engine, or it died or hung on this batch; another one starts.
        """
        if self._process is None:
            raise EngineLostError("dead")
        return await self._process.run(rows, limit_s=limit_s)

    async def stop(self) -> None:
        """End the engine for good; its process is gone once this returns."""
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
            await self._prove(process)
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


AT_ONCE = 2
"""Deaths that are mended without a pause: a text that kills the engine does so twice before it is known."""
LATELY_S = 60.0
LONGEST_S = 10.0
"""A machine that was mended waits no longer than this for its engine."""
FIRST_S = 0.25


def pause_s(deaths: Sequence[float], now: float) -> float:
    """Return the seconds to wait before the next start, after deaths at those times (`time.monotonic()`)."""
    lately = sum(now - death < LATELY_S for death in deaths)
    if lately <= AT_ONCE:
        return 0.0
    return min(LONGEST_S, FIRST_S * 2.0 ** (lately - AT_ONCE - 1))


MOST_DEATHS = 2
FORGIVEN_AFTER_S = 600.0
"""An engine may be killed from outside, twice, with the same innocent text in hand."""
REMEMBERED = 1000
"""Texts."""


class Quarantine:
    """Counts deaths by text. Texts are kept as the hash of their tokens."""

    def __init__(self) -> None:
        self._deaths: OrderedDict[int, dict[int, float]] = OrderedDict()

    def note(self, ids: Sequence[int], death: int) -> None:
        """Note that the engine died with this text in hand; however often it was there, it was one death."""
        self._deaths.setdefault(hash(tuple(ids)), {})[death] = time.monotonic()
        while len(self._deaths) > REMEMBERED:
            self._deaths.popitem(last=False)

    def forgive(self, ids: Sequence[int]) -> None:
        """Note that the engine answered this text."""
        if self._deaths:
            self._deaths.pop(hash(tuple(ids)), None)

    def holds(self, ids: Sequence[int]) -> bool:
        """Return whether the engine died of this text as often as it may."""
        if not self._deaths:
            return False
        oldest = time.monotonic() - FORGIVEN_AFTER_S
        return sum(at > oldest for at in self._deaths.get(hash(tuple(ids)), {}).values()) >= MOST_DEATHS
