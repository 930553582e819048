"""Many rows through a session: in batches of like length, several at once, each on a thread of its own.

Two batches on a thread each take a quarter less processor time than one after the other on two threads (MiniLM): small
products are not worth dividing.
"""

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from hybrid.runtime.padding import batches_of, padded
from hybrid.runtime.session import Session

AHEAD = 2
"""Batches of each thread that are made before they run: enough that none waits, and a million texts are not in memory."""


class SessionPool:
    """A session, and as many threads to call it from as it has. Safe to share between threads and after a fork."""

    def __init__(self, session: Session, *, pad_id: int) -> None:
        self._session = session
        self._pad_id = pad_id
        self.forget_parent()
        _live.add(self)

    def feed(self, rows: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
        """Return what the session gets for rows of token ids that run together."""
        return padded(rows, pad_id=self._pad_id, inputs=self._session.inputs)

    def run(self, rows: Sequence[Sequence[int]], *, on_done: Callable[[int, int], None] | None = None) -> np.ndarray:
        """Return the output [n, k] of each row of token ids, in their order; `on_done` counts rows."""
        if len(rows) == 1:
            outputs = self._session.run(self.feed(rows))
            if on_done:
                on_done(1, 1)
            return outputs
        batches = batches_of([len(row) for row in rows], self._session.threads)
        found: list[np.ndarray] = [np.empty(0)] * len(rows)
        n_done = 0
        outputs_of = self._each(self.feed([rows[i] for i in batch]) for batch in batches)
        for batch, outputs in zip(batches, outputs_of, strict=True):
            for i, output in zip(batch, outputs, strict=True):
                found[i] = output
            n_done += len(batch)
            if on_done:
                on_done(n_done, len(rows))
        return np.stack(found)

    def forget_parent(self) -> None:
        """Set the threads of the parent aside, in a child after a fork."""
        self._lock = threading.Lock()
        self._calls: ThreadPoolExecutor | None = None
        self._single: Session | None = None

    def _each(self, feeds: Iterable[Mapping[str, np.ndarray]]) -> Iterator[np.ndarray]:
        """Yield the output of each feed, in their order."""
        n_lanes = self._session.threads
        if n_lanes == 1:
            yield from map(self._session.run, feeds)
            return
        calls, session = self._opened()
        waiting: deque[Future[np.ndarray]] = deque()
        for feed in feeds:
            waiting.append(calls.submit(session.run, feed))
            if len(waiting) > AHEAD * n_lanes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _opened(self) -> tuple[ThreadPoolExecutor, Session]:
        with self._lock:
            if self._calls is None or self._single is None:
                self._single = self._session.with_one_thread()
                self._calls = ThreadPoolExecutor(self._session.threads, thread_name_prefix="lane")
            return self._calls, self._single


_live: weakref.WeakSet[SessionPool] = weakref.WeakSet()


def _after_fork() -> None:
    for lanes in list(_live):
        lanes.forget_parent()


os.register_at_fork(after_in_child=_after_fork)
