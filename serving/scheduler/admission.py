"""Admission control: learns what requests cost, and refuses one at once if its answer would be too late."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from serving.errors import OverloadedError, TooLargeError
from serving.settings import Limits
from serving.types import Deadline

SAFETY_FACTOR = 1.5
"""A margin, so that an admitted request is in time even if the machine slows down meanwhile."""
MIN_RETRY_S = 0.05
INITIAL_TOKENS_A_BYTE = 0.25
"""Assumed until the first text is tokenized; about right for English."""
EMA_WEIGHT = 0.02
"""The weight of one request in the moving averages of tokens and seconds a byte."""
LATENCY_EMA_WEIGHT = 0.005
"""The same for lateness: the answers of one batch are late together, and are one observation."""
MIN_EXPECTED_S = 0.02
"""Shorter expectations are ignored when lateness is estimated, because chance dominates them."""
MAX_LATENESS_RATIO = 4.0
"""The most that one request may contribute to lateness, as a multiple of its expected time."""
KEPT_BATCHES = 12
"""Batches of each size, by powers of two: the line follows the machine, and after an hour of single short texts it
still knows what a full batch costs."""
MIN_BATCHES = 4
"""The fewest batches for an estimate: the first batches of a graph are slow, and would cause refusals."""


class QueueLoad(msgspec.Struct, frozen=True, kw_only=True):
    """The work that the engine has at one moment."""

    queued_tokens: int
    busy_s: float
    """The seconds until the batches in the engine have run; 0 if it is idle."""
    batch_tokens: int
    """The padded tokens of a full batch."""


class WaitEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """How long a new request is expected to take."""

    tokens: float
    """Tokens ahead of it, those of texts that are not tokenized yet included."""
    wait_s: float
    """The seconds until all of them have run; 0 if the engine is idle."""
    own_s: float
    """The seconds to run the request itself."""

    @property
    def s(self) -> float:
        """The seconds until the request has run."""
        return self.wait_s + self.own_s


def check(estimate: WaitEstimate, own_tokens: float, deadline: Deadline, limits: Limits) -> None:
    """Refuse a request of `own_tokens` tokens that should not wait.

    An idle engine refuses nothing, however slow it was: the next batch corrects what is expected of it.

    Raises:
        TooLargeError: the request alone is over the cap on queued tokens.
        OverloadedError: the wait would be over the limit or the deadline, or too many tokens wait.
    """
    if own_tokens > limits.queued_tokens:
        raise TooLargeError(
            f"the request has {own_tokens:.0f} tokens, and at most {limits.queued_tokens} may wait; send it in parts"
        )
    max_wait_s = limits.wait_ms / 1000
    if estimate.tokens + own_tokens > limits.queued_tokens:
        raise _overloaded(f"{estimate.tokens:.0f} tokens wait, of at most {limits.queued_tokens}", estimate.wait_s / 2)
    if estimate.wait_s > max_wait_s:
        raise _overloaded(
            f"the expected wait is {estimate.wait_s * 1000:.0f} ms, over {limits.wait_ms:.0f} ms",
            estimate.wait_s - max_wait_s,
        )
    expected_s, left_s = SAFETY_FACTOR * estimate.s, deadline.left_s()
    if estimate.wait_s and expected_s > left_s:
        raise _overloaded(
            f"the answer is expected in {expected_s * 1000:.0f} ms, and the deadline is in {left_s * 1000:.0f} ms",
            expected_s - left_s,
        )


class BatchTiming(msgspec.Struct, frozen=True):
    """A batch that ran."""

    tokens: int
    """The tokens without padding."""
    padded: int
    seconds: float


class BatchCost:
    """The expected seconds of a batch: slope x padded tokens + offset, fitted to the most recent batches by least squares.

    Neither is ever below 0.
    """

    def __init__(self) -> None:
        self._ran: dict[int, deque[BatchTiming]] = {}
        self._n = self._tokens = self._padded = self._squares = 0
        self._seconds = self._products = 0.0

    @property
    def known(self) -> bool:
        """Whether enough batches have run for an estimate."""
        return self._n >= MIN_BATCHES

    def add(self, tokens: int, padded: int, seconds: float) -> None:
        """Note a batch that ran."""
        alike = self._ran.setdefault(padded.bit_length(), deque())
        alike.append(BatchTiming(tokens, padded, seconds))
        self._count(alike[-1], +1)
        if len(alike) > KEPT_BATCHES:
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


class LatencyCorrection:
    """How much longer requests take than their batches alone, since the CPUs have other work: a factor of at least 1."""

    def __init__(self) -> None:
        self._factor = 1.0

    def corrected(self, estimate: WaitEstimate) -> WaitEstimate:
        """The estimate times the factor."""
        factor = max(1.0, self._factor)
        return WaitEstimate(tokens=estimate.tokens, wait_s=factor * estimate.wait_s, own_s=factor * estimate.own_s)

    def learn(self, expected_s: float, took_s: float) -> None:
        """Record how long an answer took, or was waited for in vain, beside the uncorrected expectation."""
        if expected_s > MIN_EXPECTED_S:
            self._factor += LATENCY_EMA_WEIGHT * (min(took_s / expected_s, MAX_LATENESS_RATIO) - self._factor)


class Backlog:
    """The bytes of text that the service holds, and what those that are not tokenized yet will cost."""

    def __init__(self, limits: Limits) -> None:
        self.n_bytes = 0
        self.unread = 0
        """Bytes of text that wait for the tokenizer or are in it."""
        self._limits = limits
        self._tokens_a_byte = INITIAL_TOKENS_A_BYTE
        self._seconds_a_byte = 0.0

    @property
    def unread_tokens(self) -> float:
        """About how many tokens the texts will have that are not tokenized yet."""
        return self.unread * self._tokens_a_byte

    @property
    def unread_s(self) -> float:
        """About how long one thread will take to tokenize them."""
        return self.unread * self._seconds_a_byte

    def tokens_of(self, n_bytes: int) -> float:
        """About how many tokens `n_bytes` of text have."""
        return n_bytes * self._tokens_a_byte

    @contextmanager
    def holding(self, n_bytes: int) -> Iterator[None]:
        """Count the texts of a request while it is in the service.

        Raises:
            OverloadedError: with them the service would hold more than it may.
        """
        if self.n_bytes and self.n_bytes + n_bytes > self._limits.queued_bytes:
            raise _overloaded(f"texts of {self.n_bytes} bytes wait, of at most {self._limits.queued_bytes}", 0.5)
        self.n_bytes += n_bytes
        try:
            yield
        finally:
            self.n_bytes -= n_bytes

    @contextmanager
    def reading(self, n_bytes: int) -> Iterator[None]:
        """Count the texts of a request while they are tokenized."""
        self.unread += n_bytes
        try:
            yield
        finally:
            self.unread -= n_bytes

    def learn(self, n_bytes: int, tokens: int, seconds: float) -> None:
        """Record how many tokens texts had, and how long one thread took to tokenize them."""
        self._tokens_a_byte += EMA_WEIGHT * (tokens / n_bytes - self._tokens_a_byte)
        self._seconds_a_byte += EMA_WEIGHT * (seconds / n_bytes - self._seconds_a_byte)


class Admission:
    """Estimates how long a request of one bundle will take, and refuses it where that is too long."""

    def __init__(self, backlog: Backlog, cost: BatchCost, limits: Limits, *, n_tokenizer_threads: int) -> None:
        self._backlog = backlog
        self._cost = cost
        self._limits = limits
        self._n_tokenizer_threads = n_tokenizer_threads
        self._correction = LatencyCorrection()

    def admit(self, counted: int, expected: float, load: QueueLoad, deadline: Deadline) -> WaitEstimate:
        """Let a request in and return its uncorrected estimate.

        `expected` tokens is what it is thought to have; `counted` is how many count against the cap, 0 before it was
        tokenized.

        Raises:
            TooLargeError, OverloadedError: as `check` says.
        """
        tokens_ahead = load.queued_tokens + self._backlog.unread_tokens
        wait_s = load.busy_s + self._cost.wait_s(tokens_ahead, load.batch_tokens)
        wait_s += self._backlog.unread_s / self._n_tokenizer_threads
        own_s = self._cost.wait_s(expected, load.batch_tokens)
        estimate = WaitEstimate(tokens=tokens_ahead, wait_s=wait_s, own_s=own_s)
        check(self._correction.corrected(estimate), counted, deadline, self._limits)
        return estimate

    def learn(self, estimate: WaitEstimate, took_s: float) -> None:
        """Record how long a request took that was let in."""
        self._correction.learn(estimate.s, took_s)


def _overloaded(why: str, retry_after_s: float) -> OverloadedError:
    retry_after_s = max(retry_after_s, MIN_RETRY_S)
    return OverloadedError(f"overloaded: {why}; try again in {retry_after_s:.2g} s", retry_after_s=retry_after_s)
