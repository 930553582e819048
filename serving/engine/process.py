"""One engine process, from the side of the service: started, asked batch after batch, ended."""

import array
import asyncio
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import serving
from hybrid.errors import BundleError
from serving.engine.frames import Batch, Failed, Listener, Logits, Open, Opened, Refused, Said, pack
from serving.engine.processor import used_s, works

COMMAND = (sys.executable, "-m", "serving.engine.child")
START_S = 60.0
"""The most that opening a graph may take: the largest encoders are gigabytes."""
LOOKS = 10
"""How many times its limit a batch may take while the engine works and is not given the processor."""
END_S = 1.0
"""How long an engine that was told to end may take before it is killed."""


class EngineError(Exception):
    """The graph raised on a batch; the engine goes on."""


class EngineLostError(Exception):
    """The engine died or hung: it is gone, and its batch with it."""


class EngineProcess:
    """A process that runs one batch at a time. Lives on the event loop."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.threads = 0
        self._process = process
        self._out: asyncio.WriteTransport | None = None
        self._answer: asyncio.Future[Said] | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._lost = ""
        self._ended = False
        self._on_lost: Callable[[str], None] | None = None

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @staticmethod
    async def start(graph: Open) -> "EngineProcess":
        """Return an engine that has opened the graph.

        Raises:
            BundleError: the graph cannot be run.
            EngineLostError: the process ended before it said so.
        """
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *COMMAND,
                str(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                env=_environment(),
            )
        engine = EngineProcess(process)
        try:
            await engine._connect(ours)
            await engine._open(graph)
        except BaseException:
            await engine.kill()
            raise
        return engine

    def when_lost(self, call: Callable[[str], None]) -> None:
        """Call with the reason, once, when the process is lost; at once where it is already."""
        self._on_lost = call
        if self._lost:
            call(self._lost)

    async def run(self, rows: Sequence[list[int]], *, limit_s: float) -> list[list[float]]:
        """Return the logits of each row of token ids.

        Raises:
            EngineError: the graph raised.
            EngineLostError: the process died, or was killed: after `limit_s` it did not work, or had had that much of
                its processors.
        """
        said = await self._ask(Batch(list(rows)), limit_s)
        if isinstance(said, Failed):
            raise EngineError(said.reason)
        assert isinstance(said, Logits)
        values = array.array("f", said.values).tolist()
        n_labels = len(values) // len(rows)
        return [values[start : start + n_labels] for start in range(0, len(values), n_labels)]

    async def stop(self) -> None:
        """End the process: politely, and by force where it does not follow."""
        self._ended = True
        self._hang_up()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), END_S)
        await self.kill()

    async def kill(self) -> None:
        """End the process by force and wait until the kernel has taken it away."""
        self._ended = True
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        self._hang_up()

    async def _connect(self, ours: socket.socket) -> None:
        # The end of the stream is the death of the process, noticed though nobody asks.
        loop = asyncio.get_running_loop()
        self._out, _ = await loop.create_unix_connection(
            lambda: Listener(self._hear, lambda: self._lose("dead")), sock=ours
        )

    def _hang_up(self) -> None:
        if self._out:
            self._out.close()

    async def _open(self, graph: Open) -> None:
        said = await self._ask(graph, START_S)
        if isinstance(said, Refused):
            raise BundleError(said.reason)
        assert isinstance(said, Opened)
        self.threads = said.threads

    async def _ask(self, message: Open | Batch, limit_s: float) -> Said:
        if self._lost:
            raise EngineLostError(self._lost)
        assert self._out and self._answer is None, "one batch at a time"
        self._answer = asyncio.get_running_loop().create_future()
        self._look_later(limit_s, enough_s=used_s(self.pid) + limit_s * max(1, self.threads), looks=LOOKS)
        try:
            self._out.write(pack(message))
            return await self._answer
        except asyncio.CancelledError:
            self._lose("left")  # its answer would be taken for the next batch's
            raise
        finally:
            if self._looking:
                self._looking.cancel()
            self._answer = None

    def _look_later(self, limit_s: float, *, enough_s: float, looks: int) -> None:
        """Give the process up where it sits still for the limit, or has had `enough_s` of its processors.

        One that works and is not given a processor is slow: to start another would make that worse. It is given up
        after so many `looks` all the same.
        """

        def look() -> None:
            if looks == 1 or not works(self.pid) or used_s(self.pid) >= enough_s:
                self._lose("hung")
            else:
                self._look_later(limit_s, enough_s=enough_s, looks=looks - 1)

        self._looking = asyncio.get_running_loop().call_later(limit_s, look)

    def _hear(self, said: Said) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(said)

    def _lose(self, reason: str) -> None:
        if self._lost:
            return
        self._lost = reason
        with suppress(ProcessLookupError):
            self._process.kill()  # it may be alive with a closed socket, or stopped
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(EngineLostError(reason))
        if self._on_lost and not self._ended:
            self._on_lost(reason)


def _environment() -> dict[str, str]:
    """Return the variables of the engine: the packages are found where this process found them."""
    places = [str(Path(serving.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, places)),
        "OPENBLAS_NUM_THREADS": "1",  # numpy only packs arrays there
    }
