"""The rows that wait for the engine."""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Sequence

from serving.errors import ServingError
from serving.queue.batching import batch_of
from serving.queue.job import Job, Row


class Line:
    """Rows by length, each length in the order of arrival. Lives on the event loop."""

    def __init__(self) -> None:
        self.tokens = 0
        """Of all rows that wait."""
        self.rows = 0
        self._by_length: dict[int, OrderedDict[int, Row]] = {}
        self._alone: deque[Row] = deque()
        self._number = 0
        self._filled = asyncio.Event()

    def put(self, job: Job, *, without: Sequence[Row] = ()) -> None:
        """Let the rows of a request wait, but for those that are not to run."""
        for row in job.rows if not without else [row for row in job.rows if row not in without]:
            row.number = self._number = self._number + 1
            self._add(row)

    def put_back(self, rows: Sequence[Row]) -> None:
        """Let rows wait again, in the place that they had."""
        for row in reversed(rows):
            self._add(row)
            self._by_length[len(row.ids)].move_to_end(row.number, last=False)

    def put_alone(self, rows: Sequence[Row]) -> None:
        """Let each of the rows run before all others, in a batch of its own."""
        self._alone.extend(rows)
        for row in rows:
            self._count(row, +1)

    def forget(self, job: Job) -> None:
        """Drop what still waits of a request that nobody waits for any more."""
        for row in job.rows:
            same = self._by_length.get(len(row.ids))
            if same and same.pop(row.number, None):
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
        waiting = {length: len(rows) for length, rows in self._by_length.items() if rows}
        if not waiting:
            return []
        oldest = min(waiting, key=lambda length: next(iter(self._by_length[length])))
        batch = batch_of(waiting, oldest, most_tokens)
        return [self._first(length) for length, n in batch.items() for _ in range(n)]

    def fail_all(self, error: ServingError) -> None:
        """Give up every request that has a row here."""
        waiting = [*self._alone, *(row for rows in self._by_length.values() for row in rows.values())]
        for row in waiting:
            row.job.fail(error)
            self._count(row, -1)
        self._by_length.clear()
        self._alone.clear()

    def _add(self, row: Row) -> None:
        self._by_length.setdefault(len(row.ids), OrderedDict())[row.number] = row
        self._count(row, +1)

    def _first(self, length: int) -> Row:
        _, row = self._by_length[length].popitem(last=False)
        self._count(row, -1)
        return row

    def _count(self, row: Row, change: int) -> None:
        self.rows += change
        self.tokens += change * len(row.ids)
        if self.rows:
            self._filled.set()
        else:
            self._filled.clear()
