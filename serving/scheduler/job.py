"""One request on its way through the engine."""

import asyncio
import time
from collections.abc import Sequence

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
