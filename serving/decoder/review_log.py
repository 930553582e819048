"""Writes escalations to the review store, in batches and on a thread of its own, so that the event loop never waits."""

import logging
import sys
import threading
from collections import deque

import sqlalchemy as sql
from sqlalchemy.exc import SQLAlchemyError

from hybrid.review.escalations import Escalated, shown, write_escalations

MOST_WAITING = 20_000
"""Rows kept in memory while the store does not respond; further rows are dropped and counted."""
MOST_WAITING_BYTES = 64 << 20
"""The same in bytes of memory."""
ROW_BYTES = 2000
"""The memory of a row without its texts, about."""
BATCH = 500
"""The most rows of one write."""
TRY_AGAIN_S = 1.0
"""The pause after a failed write."""
_log = logging.getLogger(__name__)


def memory_of(row: Escalated) -> int:
    """The bytes of memory of a row, about."""
    return ROW_BYTES + sum(map(sys.getsizeof, (row.text, row.rationale, row.reason)))


class ReviewLog:
    """Writes rows in the order of the calls of `note`, which any thread may call and which returns at once."""

    def __init__(self, engine: sql.Engine) -> None:
        """Start the writer."""
        self.dropped = 0
        """Rows lost because the store did not respond for too long, or not before `close`."""
        self.written = 0
        """Rows in the store."""
        self._engine = engine
        self._waiting: deque[Escalated] = deque()
        self._n_bytes = 0
        """The memory of the rows that wait."""
        self._changed = threading.Condition()
        self._closing = False
        self._writer = threading.Thread(target=self._write_all, name="review-log", daemon=True)
        self._writer.start()

    def note(self, row: Escalated) -> None:
        """Hand a row to the writer."""
        with self._changed:
            n_bytes = memory_of(row)
            if len(self._waiting) < MOST_WAITING and self._n_bytes + n_bytes <= MOST_WAITING_BYTES:
                self._waiting.append(row)
                self._n_bytes += n_bytes
            else:
                self._drop(1)
            self._changed.notify()

    def close(self, timeout_s: float) -> None:
        """Write the rows that wait, for `timeout_s` seconds at most, and stop the writer."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._writer.join(timeout_s)
        self._engine.dispose()
        with self._changed:
            if self._waiting:
                self._drop(len(self._waiting))
                self._waiting.clear()

    def _write_all(self) -> None:
        while batch := self._next():
            try:
                write_escalations(self._engine, batch)
            except SQLAlchemyError as error:
                where = shown(self._engine.url.render_as_string())
                _log.warning("the review store %s does not take rows (%s); trying again", where, type(error).__name__)
                self._pause()
                continue
            with self._changed:
                for _ in range(min(len(batch), len(self._waiting))):
                    self._n_bytes -= memory_of(self._waiting.popleft())
                self.written += len(batch)

    def _next(self) -> list[Escalated]:
        """Wait for rows and return those to write next; none after `close` once all are written."""
        with self._changed:
            while not self._waiting and not self._closing:
                self._changed.wait()
            return [self._waiting[i] for i in range(min(BATCH, len(self._waiting)))]

    def _pause(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._closing, TRY_AGAIN_S)
        if self._closing:
            threading.Event().wait(TRY_AGAIN_S / 10)

    def _drop(self, count: int) -> None:
        self.dropped += count
        if self.dropped == count or self.dropped % 1000 == 0:
            where = shown(self._engine.url.render_as_string())
            _log.error("%d escalations were not kept for review: the store %s does not take them", self.dropped, where)
