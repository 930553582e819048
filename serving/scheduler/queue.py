"""The queue of rows for the engine, and the choice of rows that run together."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from itertools import islice

import msgspec

from hybrid.runtime.text_encoder import Encoded
from serving.errors import ItemError, ServingError
from serving.types import Timings

LOOKAHEAD = 64
"""Rows among which the oldest one's batch is chosen: enough for little padding, and so few that a row of a rare length
is overtaken by no more than these."""
CALL_TOKENS = 16
"""What a call of the session costs beside its tokens, in tokens: 2 ms to 0.09 to 0.14 ms a token (MiniLM int8). A row
joins a batch where the padding that it brings is cheaper than a call of its own."""


class Row(msgspec.Struct, eq=False):
    """The tokens of a text, or of a window of a long one: what batches are made of."""

    job: "Job"
    ids: list[int]
    item: int
    """The position of the text in its request."""
    window: int
    """The position of the window in its text."""
    number: int = 0
    """The order of arrival; the queue sets it."""


class Job:
    """The rows of a request, and a future that is done once all have run. Stage and times go into its `timings`."""

    def __init__(self, encoded: Sequence[Encoded], timings: Timings) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.rows = [
            Row(self, ids, item, window) for item, text in enumerate(encoded) for window, ids in enumerate(text.windows)
        ]
        self.tokens = sum(map(len, encoded))
        self._timings = timings
        self._put_at = time.perf_counter()
        self._rows_left = len(self.rows)
        self._logits: list[list[list[float]]] = [[[]] * len(text.windows) for text in encoded]
        self._errors: dict[int, ItemError] = {}

    @property
    def is_answered(self) -> bool:
        """Whether all of its rows have run."""
        return not self._rows_left

    def start(self) -> None:
        """Record that a row of it runs; the first one ends the time in the queue."""
        if self._timings.stage == "queue":
            self._timings.stage = "inference"
            self._timings.queue_s = time.perf_counter() - self._put_at

    def deliver(self, row: Row, logits: list[float]) -> None:
        """Take the logits of one row, as the engine gives them; with the last one the job is done."""
        self._logits[row.item][row.window] = logits
        self._count()

    def fail_item(self, row: Row, reason: str) -> None:
        """Give up one text of the request; the others continue."""
        self._errors[row.item] = ItemError(
            f"item {row.item}: the encoder fails on this text ({reason}); leave it out of the request", item=row.item
        )
        self._count()

    def fail(self, error: ServingError) -> None:
        """Give up the whole request."""
        if not self.done.done():
            self.done.set_exception(error)

    def release(self) -> None:
        """Drop its rows, which point back at it: such a cycle would wait for the garbage collector."""
        self.rows.clear()

    def results(self) -> list[list[list[float]] | ItemError]:
        """Return for each text the logits of its windows, or its error."""
        return [self._errors.get(item, logits) for item, logits in enumerate(self._logits)]

    def _count(self) -> None:
        self._rows_left -= 1
        if self._rows_left == 0 and not self.done.done():
            self._timings.inference_s = time.perf_counter() - self._put_at - self._timings.queue_s
            self.done.set_result(None)


class RequestQueue:
    """Rows in the order of arrival. Lives on the event loop."""

    def __init__(self) -> None:
        self.tokens = 0
        """Tokens of all waiting rows."""
        self.rows = 0
        """Number of waiting rows."""
        self._waiting: OrderedDict[int, Row] = OrderedDict()
        self._isolated: deque[Row] = deque()
        self._number = 0
        self._not_empty = asyncio.Event()

    @property
    def has_isolated(self) -> bool:
        """Whether a row waits that must run in a batch of its own."""
        return bool(self._isolated)

    def put(self, job: Job, *, without: Sequence[Row] = ()) -> None:
        """Append the rows of a request, except those that must not run."""
        for row in job.rows if not without else [row for row in job.rows if row not in without]:
            row.number = self._number = self._number + 1
            self._waiting[row.number] = row
            self._count(row, +1)

    def put_back(self, rows: Sequence[Row]) -> None:
        """Put rows at the head of the queue."""
        for row in reversed(rows):
            self._waiting[row.number] = row
            self._waiting.move_to_end(row.number, last=False)
            self._count(row, +1)

    def put_isolated(self, rows: Sequence[Row]) -> None:
        """Put rows before all others, each to run in a batch of its own."""
        self._isolated.extend(rows)
        for row in rows:
            self._count(row, +1)

    def withdraw(self, job: Job) -> None:
        """Remove the waiting rows of an abandoned request."""
        for row in job.rows:
            if self._waiting.pop(row.number, None):
                self._count(row, -1)

    async def not_empty(self) -> None:
        """Wait until the queue has a row."""
        await self._not_empty.wait()

    def take(self, max_tokens: int) -> list[Row]:
        """Remove and return the rows of the next batch of at most `max_tokens` padded tokens; none if none wait."""
        while self._isolated:
            row = self._isolated.popleft()
            self._count(row, -1)
            if not row.job.done.done():
                return [row]
        by_length: dict[int, list[Row]] = {}
        for row in islice(self._waiting.values(), LOOKAHEAD):
            by_length.setdefault(len(row.ids), []).append(row)
        if not by_length:
            return []
        oldest = next(iter(by_length))
        counts = batch_of({length: len(rows) for length, rows in by_length.items()}, oldest, max_tokens)
        batch = [row for length, n in counts.items() for row in by_length[length][:n]]
        for row in batch:
            del self._waiting[row.number]
            self._count(row, -1)
        return batch

    def fail_all(self, error: ServingError) -> None:
        """Give up every request that has a row here."""
        for row in (*self._isolated, *self._waiting.values()):
            row.job.fail(error)
            self._count(row, -1)
        self._waiting.clear()
        self._isolated.clear()

    def _count(self, row: Row, change: int) -> None:
        self.rows += change
        self.tokens += change * len(row.ids)
        if self.rows:
            self._not_empty.set()
        else:
            self._not_empty.clear()


def batch_of(waiting: Mapping[int, int], oldest: int, max_tokens: int) -> dict[int, int]:
    """Choose a batch: how many rows of each length it has, given how many of each length wait.

    The first row is of the length `oldest`; then come those of the nearest lengths. A row that alone is over
    `max_tokens` padded tokens runs alone.
    """
    counts = {oldest: 1}
    n, longest = 1, oldest
    for length in sorted((length for length in waiting if waiting[length]), key=lambda other: abs(other - oldest)):
        left = waiting[length] - counts.get(length, 0)
        while left:
            grown = max(longest, length)
            tokens = (n + 1) * grown
            if tokens > max_tokens:
                break
            if tokens - n * longest > length + CALL_TOKENS:
                break
            counts[length] = counts.get(length, 0) + 1
            n, longest, left = n + 1, grown, left - 1
    return counts
