"""The service's side of an engine process: starts it, sends it batches, watches it and stops it."""

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
"""The number of the first message; batches count on from it."""
START_S = 60.0
"""The time limit for opening a graph: the largest encoders are gigabytes."""
MAX_HANG_CHECKS = 10
"""How many times its limit a batch may take while the engine works but gets no CPU."""
STOP_S = 0.5
"""How long an engine may take to exit before it is killed."""


class EngineError(Exception):
    """The graph raised on a batch; the engine continues."""


class EngineLostError(Exception):
    """The engine died or hung: it is gone, and its batch with it."""


class EngineProcess:
    """A process that runs batches. Lives on the event loop."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.threads = 0
        self.in_bf16 = False
        """Whether it computes an fp32 graph in bf16."""
        self._has_evidence = False
        self._process = process
        self._out: asyncio.WriteTransport | None = None
        self._replies: dict[int, asyncio.Future[FromWorker]] = {}
        self._numbers = itertools.count(OPENING + 1)
        self._lost = ""
        self._ended = False
        self._on_lost: Callable[[str], None] | None = None

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    @staticmethod
    async def start(graph: Open) -> "EngineProcess":
        """Start a process that opens the graph.

        Raises:
            BundleError: the graph cannot be run.
            EngineLostError: the process ended before it had opened the graph.
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
        """Call `call` with the reason when the process is lost: once, and at once if it is lost already."""
        self._on_lost = call
        if self._lost:
            call(self._lost)

    async def run(self, rows: Sequence[list[int]], *, limit_s: float) -> list[list[float]]:
        """Return the logits [n_labels] of each row of token ids, and then those of its tokens where there is an evidence head.

        Raises:
            EngineError: the graph raised.
            EngineLostError: the process died, or was killed because after `limit_s` it was idle or had used `limit_s`
                of CPU time a thread.
        """
        number = next(self._numbers)
        reply = await self._request(Batch(number, list(rows)), number, limit_s)
        if isinstance(reply, Failed):
            raise EngineError(reply.reason)
        assert isinstance(reply, Logits)
        values = array.array("f", reply.values).tolist()
        lengths = [len(row) for row in rows] if self._has_evidence else [0] * len(rows)
        n_labels = (len(values) - sum(lengths)) // len(rows)
        ends = list(itertools.accumulate(n_labels + length for length in lengths))
        return [values[start:end] for start, end in itertools.pairwise([0, *ends])]

    async def stop(self) -> None:
        """Stop the process: close its socket, and kill it if it does not exit."""
        self._ended = True
        self._close_socket()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), STOP_S)
        await self.kill()

    async def kill(self) -> None:
        """Kill the process and wait until the kernel has reaped it."""
        self._ended = True
        with suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
        self._close_socket()

    async def _connect(self, ours: socket.socket) -> None:
        # The end of the stream tells of the death of the process at once.
        loop = asyncio.get_running_loop()
        self._out, _ = await loop.create_unix_connection(
            lambda: FrameReader(self._receive, lambda: self._lose("dead")), sock=ours
        )

    def _close_socket(self) -> None:
        if self._out:
            self._out.close()

    async def _open(self, graph: Open) -> None:
        reply = await self._request(graph, OPENING, START_S)
        if isinstance(reply, Refused):
            raise BundleError(reply.reason)
        assert isinstance(reply, Opened)
        self.threads, self.in_bf16, self._has_evidence = reply.threads, reply.in_bf16, reply.has_evidence

    async def _request(self, message: Open | Batch, number: int, limit_s: float) -> FromWorker:
        if self._lost:
            raise EngineLostError(self._lost)
        assert self._out
        reply: asyncio.Future[FromWorker] = asyncio.get_running_loop().create_future()
        self._replies[number] = reply
        watch = _HangWatch(self.pid, limit_s, max(1, self.threads), lambda: self._lose("hung"))
        try:
            self._out.write(encode_frame(message))
            return await reply
        finally:
            watch.stop()
            del self._replies[number]

    def _receive(self, message: FromWorker) -> None:
        reply = self._replies.get(message.number if isinstance(message, (Logits, Failed)) else OPENING)
        if reply and not reply.done():  # else nobody waits for it any more
            reply.set_result(message)

    def _lose(self, reason: str) -> None:
        if self._lost:
            return
        self._lost = reason
        with suppress(ProcessLookupError):
            self._process.kill()  # it may be alive with a closed socket, or stopped
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(EngineLostError(reason))
        if self._on_lost and not self._ended:
            self._on_lost(reason)


class _HangWatch:
    """Gives up a process that owes a reply: it was idle at the limit, or has used the limit's worth of its CPUs.

    A process that works but gets no CPU is slow: a second one would make that worse. It is given up too after
    `MAX_HANG_CHECKS` checks.
    """

    def __init__(self, pid: int, limit_s: float, threads: int, give_up: Callable[[], None]) -> None:
        self._pid = pid
        self._limit_s = limit_s
        self._max_cpu_s = cpu_s(pid) + limit_s * threads
        self._give_up = give_up
        self._checks_left = MAX_HANG_CHECKS
        self._schedule()

    def stop(self) -> None:
        """Check no more."""
        self._timer.cancel()

    def _schedule(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._limit_s, self._check)

    def _check(self) -> None:
        self._checks_left -= 1
        if not self._checks_left or not is_working(self._pid) or cpu_s(self._pid) >= self._max_cpu_s:
            self._give_up()
        else:
            self._schedule()


def _environment() -> dict[str, str]:
    """The environment of the engine: it finds the packages where this process found them."""
    places = [str(Path(serving.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, places)),
        "OPENBLAS_NUM_THREADS": "1",  # numpy only packs arrays there
    }


PROC = Path("/proc")
BUSY_STATES = frozenset("RD")
"""Process states that count as busy: R (running or runnable) and D (disk wait); see proc(5)."""
CPUCLOCK_SCHED = 2
"""The number by which Linux knows the CPU-time clock of a process (clock_getcpuclockid(3))."""


def is_working(pid: int) -> bool:
    """Whether a thread of the process runs, or would run if it got a CPU."""
    try:
        return any(_fields(task / "stat")[0] in BUSY_STATES for task in (PROC / str(pid) / "task").iterdir())
    except (OSError, IndexError):
        return False


def cpu_s(pid: int) -> float:
    """The seconds of CPU time that the process has used; 0 where the kernel does not tell."""
    try:
        return time.clock_gettime((~pid << 3) | CPUCLOCK_SCHED)  # a single system call: every batch makes it
    except OSError:
        return 0.0


def _fields(path: Path) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may hold any character; the first is the state."""
    return path.read_text().rpartition(")")[2].split()
