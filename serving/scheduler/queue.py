"""The rows that wait for the engine, and which of them run together."""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from itertools import islice

import msgspec

from hybrid.runtime.text_encoder import Encoded
from serving.errors import ItemError, ServingError


class Row(msgspec.Struct, eq=False):
    """A text, or a window of one: what a batch is made of."""

    job: "Job"
    ids: list[int]
    item: int
    """Of the request."""
    window: int
    number: int = 0
    """In the order of arrival; the line sets it."""


class Job:
    """The rows of a request, and a future with the logits of its texts once all have run."""

    def __init__(self, encoded: Sequence[Encoded]) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.rows = [
            Row(self, ids, item, window) for item, one in enumerate(encoded) for window, ids in enumerate(one.windows)
        ]
        self.tokens = sum(map(len, encoded))
        self.n_bytes = 0
        """Of the texts; who admits the request sets it."""
        self.stage = "queue"
        self.queue_s = 0.0
        self.inference_s = 0.0
        self._put_at = time.perf_counter()
        self._left = len(self.rows)
        self._logits: list[list[list[float]]] = [[[]] * len(one.windows) for one in encoded]
        self._errors: dict[int, ItemError] = {}

    def start(self) -> None:
        """Note that the first of its rows runs."""
        if self.stage == "queue":
            self.stage = "inference"
            self.queue_s = time.perf_counter() - self._put_at

    def deliver(self, row: Row, logits: list[float]) -> None:
        """Take the logits of one row; with the last one the job is done."""
        self._logits[row.item][row.window] = logits
        self._count()

    def fail_item(self, row: Row, reason: str) -> None:
        """Give one text up; the others go on."""
        self._errors[row.item] = ItemError(
            f"item {row.item}: the encoder fails on this text ({reason}); leave it out of the request", item=row.item
        )
        self._count()

    def fail(self, error: ServingError) -> None:
        """Give the whole request up."""
        if not self.done.done():
            self.done.set_exception(error)

    def end(self) -> None:
        """Let go of its rows, which point back: a ring of garbage would wait for a sweep."""
        self.rows.clear()

    def results(self) -> list[list[list[float]] | ItemError]:
        """Return for each text the logits of its windows, or why there are none."""
        return [self._errors.get(item, logits) for item, logits in enumerate(self._logits)]

    def _count(self) -> None:
        self._left -= 1
        if self._left == 0 and not self.done.done():
            self.inference_s = time.perf_counter() - self._put_at - self.queue_s
            self.done.set_result(None)


LOOKAHEAD = 64
"""Rows among which company for the oldest is looked for: enough for little padding, and so few that a row of a rare
length is overtaken by no more than these."""


class RequestQueue:
    """Rows in the order of arrival. Lives on the event loop."""

    def __init__(self) -> None:
        self.tokens = 0
        """Of all rows that wait."""
        self.rows = 0
        self._waiting: OrderedDict[int, Row] = OrderedDict()
        self._alone: deque[Row] = deque()
        self._number = 0
        self._filled = asyncio.Event()

    @property
    def has_alone(self) -> bool:
        """Whether a row waits that is to run in a batch of its own."""
        return bool(self._alone)

    def put(self, job: Job, *, without: Sequence[Row] = ()) -> None:
        """Let the rows of a request wait, but for those that are not to run."""
        for row in job.rows if not without else [row for row in job.rows if row not in without]:
            row.number = self._number = self._number + 1
            self._waiting[row.number] = row
            self._count(row, +1)

    def put_back(self, rows: Sequence[Row]) -> None:
        """Let rows wait again, before all others."""
        for row in reversed(rows):
            self._waiting[row.number] = row
            self._waiting.move_to_end(row.number, last=False)
            self._count(row, +1)

    def put_alone(self, rows: Sequence[Row]) -> None:
        """Let each of the rows run before all others, in a batch of its own."""
        self._alone.extend(rows)
        for row in rows:
            self._count(row, +1)

    def forget(self, job: Job) -> None:
        """Drop what still waits of a request that nobody waits for any more."""
        for row in job.rows:
            if self._waiting.pop(row.number, None):
                self._count(row, -1)

    async def filled(self) -> None:
        """Wait until a row waits."""
        await self._filled.wait()

    def take(self, most_tokens: int) -> list[Row]:
        """Return the rows of the next batch, which wait no longer; none where nothing waits."""
        while self._alone:
            row = self._alone.popleft()
            self._count(row, -1)
            if not row.job.done.done():
                return [row]
        by_length: dict[int, list[Row]] = {}
        for row in islice(self._waiting.values(), LOOKAHEAD):
            by_length.setdefault(len(row.ids), []).append(row)
        if not by_length:
            return []
        oldest = next(iter(by_length))
        batch = batch_of({length: len(rows) for length, rows in by_length.items()}, oldest, most_tokens)
        taken = [row for length, n in batch.items() for row in by_length[length][:n]]
        for row in taken:
            del self._waiting[row.number]
            self._count(row, -1)
        return taken

    def fail_all(self, error: ServingError) -> None:
        """Give up every request that has a row here."""
        for row in (*self._alone, *self._waiting.values()):
            row.job.fail(error)
            self._count(row, -1)
        self._waiting.clear()
        self._alone.clear()

    def _count(self, row: Row, change: int) -> None:
        self.rows += change
        self.tokens += change * len(row.ids)
        if self.rows:
            self._filled.set()
        else:
            self._filled.clear()


CALL_TOKENS = 16
"""What a call of the session costs beside its tokens, in tokens: 2 ms to 0.09 to 0.14 ms a token (MiniLM int8). A row
joins where the padding that it brings is cheaper than a call of its own."""


def batch_of(waiting: Mapping[int, int], oldest: int, most_tokens: int) -> dict[int, int]:
    """Return how many rows of each length the next batch has, given how many of each length wait.

    The first is of the length `oldest`. A row that alone is over `most_tokens` padded tokens runs alone.
    """
    taken = {oldest: 1}
    n, longest = 1, oldest
    for length in sorted((length for length in waiting if waiting[length]), key=lambda other: abs(other - oldest)):
        left = waiting[length] - taken.get(length, 0)
        while left:
            grown = max(longest, length)
            tokens = (n + 1) * grown
            if tokens > most_tokens:
                break
            if tokens - n * longest > length + CALL_TOKENS:
                break
            taken[length] = taken.get(length, 0) + 1
            n, longest, left = n + 1, grown, left - 1
    return taken
