"""Estimates the time of a batch: a line over its padded tokens, fitted to the most recent batches."""

from collections import deque

import msgspec

REMEMBERED = 12
"""Batches of each size, by powers of two: the line follows the machine, and after an hour of single short texts it
still knows what a full batch costs."""
LEAST = 4
"""The fewest batches for an estimate: the first batches of a graph are slow, and would cause refusals."""


class BatchTiming(msgspec.Struct, frozen=True):
    """A batch that ran."""

    tokens: int
    """The tokens without padding."""
    padded: int
    seconds: float


class BatchCost:
    """Seconds = slope x padded tokens + offset, by least squares. Neither is ever below 0."""

    def __init__(self) -> None:
        self._ran: dict[int, deque[BatchTiming]] = {}
        self._n = self._tokens = self._padded = self._squares = 0
        self._seconds = self._products = 0.0

    @property
    def known(self) -> bool:
        """Whether enough batches have run for an estimate."""
        return self._n >= LEAST

    def add(self, tokens: int, padded: int, seconds: float) -> None:
        """Note a batch that ran."""
        alike = self._ran.setdefault(padded.bit_length(), deque())
        alike.append(BatchTiming(tokens, padded, seconds))
        self._count(alike[-1], +1)
        if len(alike) > REMEMBERED:
            self._count(alike.popleft(), -1)

    def batch_s(self, padded: int) -> float:
        """Return the seconds that a batch of so many padded tokens takes; 0 while that is not known."""
        slope, offset = self._line()
        return slope * padded + offset

    def wait_s(self, tokens: float, most_tokens: int) -> float:
        """Return the seconds until so many tokens have run, padded as those before and in full batches."""
        if not self.known or tokens <= 0:
            return 0.0
        slope, offset = self._line()
        padded = tokens * self._padded / self._tokens
        return slope * padded + offset * max(1.0, padded / most_tokens)

    def _line(self) -> tuple[float, float]:
        if not self.known:
            return 0.0, 0.0
        mean_padded, mean_s = self._padded / self._n, self._seconds / self._n
        spread = self._squares - self._n * mean_padded**2
        slope = (self._products - self._n * mean_padded * mean_s) / spread if spread >= 1 else 0.0
        if not 0 < slope * mean_padded <= mean_s:
            # Batches of about one size, or noise: a line through the origin is right where they are.
            return mean_s / mean_padded, 0.0
        return slope, mean_s - slope * mean_padded

    def _count(self, ran: BatchTiming, sign: int) -> None:
        self._n += sign
        self._tokens += sign * ran.tokens
        self._padded += sign * ran.padded
        self._squares += sign * ran.padded**2
        self._seconds += sign * ran.seconds
        self._products += sign * ran.padded * ran.seconds
