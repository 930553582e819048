"""The last two minutes, second by second, as the page draws them."""

import math
import time
from collections.abc import Callable, Sequence

import msgspec

from serving.types import Answer

SECONDS = 120
"""The width of the window."""
SHORTEST_S = 1e-4
RATIO = 1.1
"""From one bucket of latencies to the next: a percentile is at most 10 % too high."""
BUCKETS = 150
"""Up to 160 s, longer than any deadline."""


class Second(msgspec.Struct, frozen=True, kw_only=True):
    """One second of the window."""

    texts: int
    requests: int
    refused: int
    below: int
    """Texts below the threshold that held for them."""
    p50_s: float | None
    p95_s: float | None
    """Of the requests answered; absent where there was none."""


class WindowFigures(msgspec.Struct, frozen=True, kw_only=True):
    """The window as a whole, and its seconds from old to new; the one under way is left out."""

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
"""Stands for a second in which nothing happened."""


class RollingWindow:
    """Counts of the last `SECONDS` in as many slots, used in turn: memory does not grow with traffic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with empty seconds."""
        self._clock = clock
        self._began = int(clock())
        # One more than the window shows: the second under way.
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
        """The window that ends with the last full second; shorter at first."""
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
        place = now % len(self._slots)
        if self._slots[place].second != now:
            self._slots[place] = _Slot(second=now)
        return self._slots[place]


def bucket(seconds: float) -> int:
    """The index of the bucket of a latency."""
    if seconds <= SHORTEST_S:
        return 0
    return min(BUCKETS - 1, math.ceil(math.log(seconds / SHORTEST_S) / math.log(RATIO)))


def percentile(counts: Sequence[int], share: float) -> float | None:
    """The upper end, in seconds, of the bucket that this share of the latencies lies in or below; None without any."""
    left = share * sum(counts)
    if not left:
        return None
    for index, count in enumerate(counts):
        left -= count
        if left <= 0:
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
