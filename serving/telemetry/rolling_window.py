"""A rolling window over the last two minutes, by the second, for the charts of the page."""

import math
import time
from collections.abc import Callable, Sequence

import msgspec

from serving.types import Answer

SECONDS = 120
"""The length of the window."""
SHORTEST_S = 1e-4
"""The upper end of the first bucket of latencies."""
RATIO = 1.1
"""The ratio of neighbouring latency buckets, so that a percentile is at most 10 % too high."""
BUCKETS = 150
"""Enough buckets for latencies up to 160 s, longer than any deadline."""


class Second(msgspec.Struct, frozen=True, kw_only=True):
    """One second of the window."""

    texts: int
    requests: int
    refused: int
    below: int
    """Texts whose confidence is below the threshold of their request."""
    p50_s: float | None
    p95_s: float | None
    """Percentiles of the latency of answered requests; absent if there were none."""


class WindowFigures(msgspec.Struct, frozen=True, kw_only=True):
    """Figures for the whole window, and its seconds from old to new without the current one."""

    seconds: list[Second]
    texts_a_second: float
    refused_share: float | None
    below_share: float | None
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None


class _Slot(msgspec.Struct, kw_only=True):
    second: int
    texts: int = 0
    requests: int = 0
    refused: int = 0
    below: int = 0
    latencies: list[int] = msgspec.field(default_factory=lambda: [0] * BUCKETS)
    ended: Second | None = None
    """Computed once the second is over."""


EMPTY = _Slot(second=-1)
"""Stands for a second without events."""


class RollingWindow:
    """Counts of the last `SECONDS` in a ring of slots, so that memory does not grow with traffic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with empty seconds."""
        self._clock = clock
        self._began = int(clock())
        # One slot more than the window shows, for the current second.
        self._slots = [_Slot(second=-1) for _ in range(SECONDS + 1)]
        self._last: tuple[int, WindowFigures] | None = None

    def answered(self, answers: Sequence[Answer], seconds: float) -> None:
        """Count a request that was answered."""
        slot = self._slot()
        slot.requests += 1
        slot.texts += len(answers)
        for answer in answers:
            slot.below += answer.encoder_confidence < answer.threshold
        slot.latencies[bucket(seconds)] += 1

    def refused(self) -> None:
        """Count a request that got no answer."""
        self._slot().refused += 1

    def numbers(self) -> WindowFigures:
        """Compute the figures of the window that ends with the last full second; it is shorter at first."""
        now = int(self._clock())
        if self._last is None or self._last[0] != now:
            self._last = (now, self._window(range(max(self._began, now - SECONDS), now)))
        return self._last[1]

    def _window(self, window: range) -> WindowFigures:
        candidates = [self._slots[second % len(self._slots)] for second in window]
        slots = [slot if slot.second == second else EMPTY for slot, second in zip(candidates, window, strict=True)]
        latencies = [sum(column) for column in zip(*(slot.latencies for slot in slots if slot.requests), strict=True)]
        texts, requests = sum(slot.texts for slot in slots), sum(slot.requests for slot in slots)
        refused = sum(slot.refused for slot in slots)
        return WindowFigures(
            seconds=[_second(slot) for slot in slots],
            texts_a_second=texts / max(1, len(slots)),
            refused_share=refused / (requests + refused) if requests + refused else None,
            below_share=sum(slot.below for slot in slots) / texts if texts else None,
            p50_s=percentile(latencies, 0.5),
            p95_s=percentile(latencies, 0.95),
            p99_s=percentile(latencies, 0.99),
        )

    def _slot(self) -> _Slot:
        now = int(self._clock())
        index = now % len(self._slots)
        if self._slots[index].second != now:
            self._slots[index] = _Slot(second=now)
        return self._slots[index]


def bucket(seconds: float) -> int:
    """Find the index of the bucket of a latency."""
    if seconds <= SHORTEST_S:
        return 0
    return min(BUCKETS - 1, math.ceil(math.log(seconds / SHORTEST_S) / math.log(RATIO)))


def percentile(counts: Sequence[int], share: float) -> float | None:
    """Estimate a percentile in seconds: the upper end of its bucket. None if there are no latencies."""
    n_left = share * sum(counts)
    if not n_left:
        return None
    for index, count in enumerate(counts):
        n_left -= count
        if n_left <= 0:
            return SHORTEST_S * RATIO**index
    return SHORTEST_S * float(RATIO ** (len(counts) - 1))


def _second(slot: _Slot) -> Second:
    if slot.ended is None:
        slot.ended = Second(
            texts=slot.texts,
            requests=slot.requests,
            refused=slot.refused,
            below=slot.below,
            p50_s=percentile(slot.latencies, 0.5),
            p95_s=percentile(slot.latencies, 0.95),
        )
    return slot.ended
