"""The rows that wait for the engine."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence
from itertools import islice

from serving.errors import ServingError
from serving.scheduler.batching import batch_of
from serving.scheduler.job import Job, Row

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
