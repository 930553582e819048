"""Workers that are processes of this machine.

The pools of the standard library give up all of their work where one process dies, and leave processes behind where the
parent does.
"""

import multiprocessing
import pickle
import signal
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import msgspec

from hybrid.cluster.engine import MOST_DEATHS, Item, Result, Work, too_many_deaths
from hybrid.errors import CrashError, HybridError

_FORKLESS = multiprocessing.get_context("spawn")  # threads of onnxruntime do not survive a fork


class _Worker(msgspec.Struct):
    process: SpawnProcess
    pipe: Connection
    items: list[Any] = []
    """The item at work; empty where there is none."""
    has_answered: bool = False


class LocalEngine:
    """As many processes as are asked for, each with the same number of threads."""

    def __init__(self, workers: int, threads: int) -> None:
        self._n_workers = workers
        self._threads = threads
        self._workers: list[_Worker] = []

    def map(self, work: Work[Item, Result], items: Iterable[Item]) -> Iterator[Result]:
        """Do each item; see `Engine.map`."""
        waiting = deque(items)
        deaths: Counter[Item] = Counter()
        try:
            while waiting or any(worker.items for worker in self._workers):
                self._hand_out(work, waiting)
                for worker in self._ready():
                    try:
                        content = worker.pipe.recv_bytes()
                    except (EOFError, OSError):
                        self._bury(worker, waiting, deaths)
                        continue
                    worker.items, worker.has_answered = [], True
                    is_result, value = pickle.loads(content)
                    if not is_result:
                        raise value
                    yield value
        finally:
            self.close()

    def close(self) -> None:
        """End the processes, whatever they are doing."""
        for worker in self._workers:
            worker.process.kill()
            worker.process.join()
            worker.pipe.close()
        self._workers = []

    def _hand_out(self, work: Work[Item, Result], waiting: deque[Item]) -> None:
        """Give every idle worker an item, and start workers where some are missing."""
        n_busy = sum(bool(worker.items) for worker in self._workers)
        while len(self._workers) < min(self._n_workers, n_busy + len(waiting)):
            ours, theirs = _FORKLESS.Pipe()
            process = _FORKLESS.Process(target=_serve, args=(theirs, work, self._threads), daemon=True)
            process.start()
            theirs.close()
            self._workers.append(_Worker(process, ours))
        for worker in self._workers:
            if not worker.items and waiting:
                worker.items = [waiting.popleft()]
                with suppress(OSError):  # where it is dead, which `_ready` sees
                    worker.pipe.send_bytes(pickle.dumps(worker.items[0]))

    def _ready(self) -> list[_Worker]:
        """Wait for the workers that have something to say or are dead."""
        by_pipe: dict[object, _Worker] = {worker.pipe: worker for worker in self._workers if worker.items}
        # On Windows the ends of a pipe are of another class, `PipeConnection`.
        return [by_pipe[pipe] for pipe in wait([worker.pipe for worker in self._workers if worker.items])]

    def _bury(self, worker: _Worker, waiting: deque[Item], deaths: "Counter[Item]") -> None:
        """Put the item of a dead worker back."""
        worker.process.join()
        worker.pipe.close()
        self._workers.remove(worker)
        status = worker.process.exitcode or 0
        if status > 0 and not worker.has_answered:  # it ended by itself, where a kill gives a negative status
            raise CrashError(
                f"a worker process ends with status {status} as it starts; a program that starts some is a file, and does so below "
                "`if __name__ == '__main__':`"
            )
        for item in worker.items:
            deaths[item] += 1
            if deaths[item] >= MOST_DEATHS:
                raise too_many_deaths(item)
            waiting.appendleft(item)


def _serve(pipe: Connection, work: Work[Any, Any], threads: int) -> None:
    """Do items until the parent closes the pipe or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all processes; the parent ends this one
    call = None
    while True:
        try:
            item = pickle.loads(pipe.recv_bytes())
        except (EOFError, OSError):
            return
        try:
            call = call or work.start(threads)
            outcome = (True, call(item))
        except HybridError as error:
            outcome = (False, error)
        except Exception as error:  # the parent has no other way to know
            outcome = (False, CrashError(f"a worker failed: {type(error).__name__}: {error}"))
        try:
            pipe.send_bytes(pickle.dumps(outcome))
        except OSError:
            return
