"""Many rows through a session: in batches of like length, several at once, each on a thread of its own.

Two batches on a thread each take a quarter less processor time than one after the other on two threads (MiniLM): small
products are not worth dividing.
"""

import math
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from hybrid.runtime.engines.open_graph import Outputs
from hybrid.runtime.session import Session, reset_in_children

TOKENS_A_BATCH = 256
"""Padded tokens in one call of the session: few enough to stay in the processor's caches. Sixteen times as many cost
half as much again in processor time (MiniLM)."""
FEW_TOKENS = 32
"""Fewer are not worth a call of their own, even where a thread is idle."""
BATCHES_AHEAD = 2
"""Batches of each thread that are made before they run: enough that no thread waits, and few enough that a million
texts are not in memory."""


class RowOutputs(NamedTuple):
    """What a graph gives for rows of token ids. (A plain tuple: it is made for every text.)"""

    logits: np.ndarray
    """Of the labels, float32 [n, k]."""
    token_logits: list[np.ndarray]
    """Of the evidence head, for each row float32 [length], without padding; empty where the graph has no such head."""


class SessionPool:
    """A session, and as many threads to call it from as it has. Safe to share between threads and after a fork."""

    def __init__(self, session: Session, *, pad_id: int) -> None:
        """Run `session`; `pad_id` is the token id that fills up shorter rows of a batch."""
        self._session = session
        self._pad_id = pad_id
        self.reset_after_fork()
        reset_in_children(self)

    def feed(self, rows: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
        """Build what the session gets for rows of token ids that run together."""
        return padded(rows, pad_id=self._pad_id, inputs=self._session.inputs)

    @property
    def has_evidence(self) -> bool:
        """Whether the graph has the output of an evidence head."""
        return self._session.has_evidence

    def run(
        self,
        rows: Sequence[Sequence[int]],
        *,
        on_done: Callable[[int, int], None] | None = None,
        threads_alike: bool = False,
    ) -> np.ndarray:
        """Compute the logits [n, k] of rows of token ids, in their order; see `outputs`."""
        return self.outputs(rows, on_done=on_done, threads_alike=threads_alike).logits

    def outputs(
        self,
        rows: Sequence[Sequence[int]],
        *,
        on_done: Callable[[int, int], None] | None = None,
        threads_alike: bool = False,
    ) -> RowOutputs:
        """Compute the outputs of each row of token ids, in their order.

        `on_done` is called with the number of rows that are done, and of all rows. With `threads_alike` the batches, and
        so the last bits of a quantized graph's output, do not depend on the number of threads; a few rows then may leave
        threads idle.
        """
        if len(rows) == 1:
            output = self._session.outputs(self.feed(rows))
            if on_done:
                on_done(1, 1)
            return RowOutputs(output.logits, [] if output.token_logits is None else list(output.token_logits))
        batches = batches_of([len(row) for row in rows], 1 if threads_alike else self._session.threads)
        logits: list[np.ndarray] = [np.empty(0)] * len(rows)
        tokens = logits.copy() if self.has_evidence else []
        n_done = 0
        batch_outputs = self._run_each(self.feed([rows[i] for i in batch]) for batch in batches)
        for batch, output in zip(batches, batch_outputs, strict=True):
            for place, i in enumerate(batch):
                logits[i] = output.logits[place]
                if output.token_logits is not None:
                    tokens[i] = output.token_logits[place, : len(rows[i])]
            n_done += len(batch)
            if on_done:
                on_done(n_done, len(rows))
        return RowOutputs(np.stack(logits), tokens)

    def reset_after_fork(self) -> None:
        """Set the threads of the parent aside, in a child after a fork."""
        self._lock = threading.Lock()
        self._threads: ThreadPoolExecutor | None = None
        self._single: Session | None = None

    def _run_each(self, feeds: Iterable[Mapping[str, np.ndarray]]) -> Iterator[Outputs]:
        """Yield the output of each feed, in their order."""
        n_threads = self._session.threads
        if n_threads == 1:
            yield from map(self._session.outputs, feeds)
            return
        threads, session = self._started()
        waiting: deque[Future[Outputs]] = deque()
        for feed in feeds:
            waiting.append(threads.submit(session.outputs, feed))
            if len(waiting) > BATCHES_AHEAD * n_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _started(self) -> tuple[ThreadPoolExecutor, Session]:
        with self._lock:
            if self._threads is None or self._single is None:
                self._single = self._session.with_one_thread()
                self._threads = ThreadPoolExecutor(self._session.threads, thread_name_prefix="session")
            return self._threads, self._single


def batches_of(lengths: Sequence[int], threads: int) -> list[list[int]]:
    """Group rows of these lengths into batches of row indices, by length, and where they suffice one a thread.

    A batch has at most `TOKENS_A_BATCH` padded tokens, or is one row that alone has more.
    """
    share = math.ceil(sum(lengths) / threads)
    max_tokens = min(TOKENS_A_BATCH, max(share, FEW_TOKENS))
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    batches: list[list[int]] = []
    start = 0
    for end in range(1, len(order) + 1):
        # Sorted by length, so the next row is the longest that the batch would have.
        next_length = lengths[order[end]] if end < len(order) else 0
        full = (end + 1 - start) * next_length > max_tokens
        thread_idle = next_length >= FEW_TOKENS and len(order) - end < threads - len(batches)
        if full or thread_idle or not next_length:
            batches.append(order[start:end])
            start = end
    return batches


def padded(rows: Sequence[Sequence[int]], *, pad_id: int, inputs: Sequence[str]) -> dict[str, np.ndarray]:
    """Build the `inputs` of a session, int64 [n, longest row], from rows of token ids; padded on the right."""
    if len(rows) == 1:
        ids = np.array(rows, dtype=np.int64)
        mask = np.ones_like(ids)
    else:
        ids = np.full((len(rows), max(map(len, rows))), pad_id, dtype=np.int64)
        mask = np.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row
            mask[number, : len(row)] = 1
    feed = {"input_ids": ids, "attention_mask": mask}
    if "token_type_ids" in inputs:
        feed["token_type_ids"] = np.zeros_like(ids)  # one text a row: all are of the first type
    return {name: feed[name] for name in inputs}
