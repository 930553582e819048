"""One engine process, from the side of the service: started, asked batch after batch, ended."""

import array
import asyncio
import itertools
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import serving
from hybrid.errors import BundleError
from serving.engine.ipc import Batch, Failed, FrameReader, FromWorker, Logits, Open, Opened, Refused, encode_frame

COMMAND = (sys.executable, "-m", "serving.engine.worker")
OPENING = 0
"""The number of the first question; those of batches follow."""
START_S = 60.0
"""The most that opening a graph may take: the largest encoders are gigabytes."""
MAX_HANG_CHECKS = 10
"""How many times its limit a batch may take while the engine works and is not given the processor."""
END_S = 1.0
"""How long an engine that was told to end may take before it is killed."""


class EngineError(Exception):
    """The graph raised on a batch; the engine goes on."""


class EngineLostError(Exception):
    """The engine died or hung: it is gone, and its batch with it."""


class EngineProcess:
    """A process that runs batches. Lives on the event loop."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.threads = 0
        self._process = process
        self._out: asyncio.WriteTransport | None = None
        self._answers: dict[int, asyncio.Future[FromWorker]] = {}
        self._numbers = itertools.count(OPENING + 1)
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
        number = next(self._numbers)
        said = await self._ask(Batch(number, list(rows)), number, limit_s)
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
            lambda: FrameReader(self._hear, lambda: self._lose("dead")), sock=ours
        )

    def _hang_up(self) -> None:
        if self._out:
            self._out.close()

    async def _open(self, graph: Open) -> None:
        said = await self._ask(graph, OPENING, START_S)
        if isinstance(said, Refused):
            raise BundleError(said.reason)
        assert isinstance(said, Opened)
        self.threads = said.threads

    async def _ask(self, message: Open | Batch, number: int, limit_s: float) -> FromWorker:
        if self._lost:
            raise EngineLostError(self._lost)
        assert self._out
        answer: asyncio.Future[FromWorker] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        watch = _Watch(self.pid, limit_s, max(1, self.threads), lambda: self._lose("hung"))
        try:
            self._out.write(encode_frame(message))
            return await answer
        finally:
            watch.end()
            del self._answers[number]

    def _hear(self, said: FromWorker) -> None:
        answer = self._answers.get(said.number if isinstance(said, (Logits, Failed)) else OPENING)
        if answer and not answer.done():  # else nobody waits for it any more
            answer.set_result(said)

    def _lose(self, reason: str) -> None:
        if self._lost:
            return
        self._lost = reason
        with suppress(ProcessLookupError):
            self._process.kill()  # it may be alive with a closed socket, or stopped
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(EngineLostError(reason))
        if self._on_lost and not self._ended:
            self._on_lost(reason)


class _Watch:
    """Has a process given up that owes an answer: it sat still for the limit, or had the limit's worth of its processors.

    One that works and is not given a processor is slow: to start another would make that worse. It is given up after so
    many `MAX_HANG_CHECKS` all the same.
    """

    def __init__(self, pid: int, limit_s: float, threads: int, give_up: Callable[[], None]) -> None:
        self._pid = pid
        self._limit_s = limit_s
        self._enough_s = used_s(pid) + limit_s * threads
        self._give_up = give_up
        self._looks = MAX_HANG_CHECKS
        self._later()

    def end(self) -> None:
        """Look no more."""
        self._looking.cancel()

    def _later(self) -> None:
        self._looking = asyncio.get_running_loop().call_later(self._limit_s, self._look)

    def _look(self) -> None:
        self._looks -= 1
        if not self._looks or not works(self._pid) or used_s(self._pid) >= self._enough_s:
            self._give_up()
        else:
            self._later()


def _environment() -> dict[str, str]:
    """Return the variables of the engine: the packages are found where this process found them."""
    places = [str(Path(serving.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, places)),
        "OPENBLAS_NUM_THREADS": "1",  # numpy only packs arrays there
    }


PROC = Path("/proc")
WORKING = frozenset("RD")
"""Runs or waits for a processor, or for the disk: another state is that of who waits for something to happen (proc(5))."""
CPUCLOCK_SCHED = 2
"""The clock of a process's processor time, as Linux numbers it by process (clock_getcpuclockid(3))."""


def works(pid: int) -> bool:
    """Return whether a thread of the process runs, or would if there were a processor for it."""
    try:
        return any(_fields(task / "stat")[0] in WORKING for task in (PROC / str(pid) / "task").iterdir())
    except (OSError, IndexError):
        return False


def used_s(pid: int) -> float:
    """Return the seconds of processor time that the process has had; 0 where the kernel does not say."""
    try:
        return time.clock_gettime((~pid << 3) | CPUCLOCK_SCHED)  # one call of the kernel: it is asked at every batch
    except OSError:
        return 0.0


def _fields(path: Path) -> list[str]:
    """Return what stands after the name, which may hold anything: the state is the first."""
    return path.read_text().rpartition(")")[2].split()
