"""Limits the number of concurrent calls, adapting to a server that reports overload."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class Limiter:
    """Slots that halve when the server is overloaded and grow back by one a round trip.

    Additive increase, multiplicative decrease (Chiu and Jain 1989), from `most` slots down to one.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._slots = float(most)
        self._in_flight = 0
        self._cut_at = -float("inf")
        self._resume_at = -float("inf")
        self._changed = Condition()

    @property
    def slots(self) -> int:
        """The current limit on concurrent calls."""
        return int(self._slots)

    @contextmanager
    def slot(self) -> Iterator[float]:
        """Wait for a slot and hold it until the block ends; yields the time of `time.monotonic` when the wait ended."""
        with self._changed:
            while (wait_s := self._wait_s()) is None or wait_s > 0:
                self._changed.wait(wait_s)
            self._in_flight += 1
        try:
            yield time.monotonic()
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()

    def served(self) -> None:
        """Report that a call was answered: the limit grows."""
        with self._changed:
            self._slots = min(self._most, self._slots + 1 / self._slots)
            self._changed.notify_all()

    def overloaded(self, sent_at: float, pause_s: float = 0.0) -> None:
        """Report that the server was overloaded when it got the call of `sent_at`, and pause all calls for `pause_s`.

        The limit halves once a round trip: calls that were sent before the last cut change nothing.
        """
        now = time.monotonic()
        with self._changed:
            self._resume_at = max(self._resume_at, now + pause_s)
            if sent_at > self._cut_at:
                self._slots = max(1.0, self._slots / 2)
                self._cut_at = now

    def _wait_s(self) -> float | None:
        """Seconds to wait before the next check: 0 where a slot is free, None until another call ends."""
        pause_s = self._resume_at - time.monotonic()
        if pause_s > 0:
            return pause_s
        return 0.0 if self._in_flight < self.slots else None
