"""Who is let in: a request is refused at once where its answer would come too late."""

from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from serving.deadline import Deadline
from serving.errors import OverloadedError, TooLargeError
from serving.settings import Limits

SAFETY_FACTOR = 1.5
"""A request that is let in should be in time though the machine slows down meanwhile."""
SOONEST_RETRY_S = 0.05
TOKENS_A_BYTE = 0.25
"""Before the first text was read: about right for English."""
EMA_WEIGHT = 0.02
"""The weight of one request in the averages over those before it."""
LATENESS_EMA_WEIGHT = 0.005
"""The same for how late answers come: those of one batch are late together, and tell of one thing."""
WAITED_S = 0.02
"""Where less was expected, chance made the difference."""
MAX_LATENESS_RATIO = 4.0
"""Times what was expected, that one request may count for."""


class WaitEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """What a new request finds before it."""

    tokens: float
    """That wait, and, of texts that are not read yet, will wait."""
    wait_s: float
    """Expected until all of it has run; 0 where the engine is idle."""
    own_s: float
    """Expected for the request itself."""

    @property
    def s(self) -> float:
        """Expected until the request has run."""
        return self.wait_s + self.own_s


def check(ahead: WaitEstimate, own_tokens: float, deadline: Deadline, limits: Limits) -> None:
    """Raise where a request of so many tokens should not wait.

    An idle engine refuses nothing, however slow it was: the next batch corrects what is expected of it.

    Raises:
        TooLargeError: the request alone is over the cap on queued tokens.
        OverloadedError: the wait would be over the limit or the deadline, or too many tokens wait.
    """
    if own_tokens > limits.queued_tokens:
        raise TooLargeError(
            f"the request has {own_tokens:.0f} tokens, and at most {limits.queued_tokens} may wait; send it in parts"
        )
    most_s = limits.wait_ms / 1000
    if ahead.tokens + own_tokens > limits.queued_tokens:
        raise _overloaded(f"{ahead.tokens:.0f} tokens wait, of at most {limits.queued_tokens}", ahead.wait_s / 2)
    if ahead.wait_s > most_s:
        raise _overloaded(
            f"the expected wait is {ahead.wait_s * 1000:.0f} ms, over {limits.wait_ms:.0f} ms", ahead.wait_s - most_s
        )
    expected_s, left_s = SAFETY_FACTOR * ahead.s, deadline.left_s()
    if ahead.wait_s and expected_s > left_s:
        raise _overloaded(
            f"the answer is expected in {expected_s * 1000:.0f} ms, and the deadline is in {left_s * 1000:.0f} ms",
            expected_s - left_s,
        )


class LatencyCorrection:
    """How much longer requests take than batches alone would have it: the processors have other work as well."""

    def __init__(self) -> None:
        self._times = 1.0

    def corrected(self, ahead: WaitEstimate) -> WaitEstimate:
        """Return what is to be expected, given how late those before were; never less than was expected."""
        times = max(1.0, self._times)
        return WaitEstimate(tokens=ahead.tokens, wait_s=times * ahead.wait_s, own_s=times * ahead.own_s)

    def learn(self, expected_s: float, took_s: float) -> None:
        """Note what an answer took, or how long it was waited for in vain, beside the uncorrected expectation."""
        if expected_s > WAITED_S:
            self._times += LATENESS_EMA_WEIGHT * (min(took_s / expected_s, MAX_LATENESS_RATIO) - self._times)


class Backlog:
    """The bytes of the texts that are in the service, and what those that nobody has read yet will cost."""

    def __init__(self, limits: Limits) -> None:
        self.n_bytes = 0
        self.unread = 0
        """Bytes of texts that wait for the tokenizer or are in it."""
        self._limits = limits
        self._tokens_a_byte = TOKENS_A_BYTE
        self._seconds_a_byte = 0.0

    @property
    def unread_tokens(self) -> float:
        """About how many tokens the texts that are not read yet will have."""
        return self.unread * self._tokens_a_byte

    @property
    def unread_s(self) -> float:
        """About how long one thread reads at them."""
        return self.unread * self._seconds_a_byte

    def tokens_of(self, n_bytes: int) -> float:
        """Return about how many tokens so many bytes of text have."""
        return n_bytes * self._tokens_a_byte

    @contextmanager
    def holding(self, n_bytes: int) -> Iterator[None]:
        """Count the texts of a request while it is in the service.

        Raises:
            OverloadedError: with them it would hold more than it may.
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
        """Count the texts of a request while they are tokenised."""
        self.unread += n_bytes
        try:
            yield
        finally:
            self.unread -= n_bytes

    def learn(self, n_bytes: int, tokens: int, seconds: float) -> None:
        """Note how many tokens texts had, and how long one thread read at them."""
        self._tokens_a_byte += EMA_WEIGHT * (tokens / n_bytes - self._tokens_a_byte)
        self._seconds_a_byte += EMA_WEIGHT * (seconds / n_bytes - self._seconds_a_byte)


def _overloaded(why: str, retry_after_s: float) -> OverloadedError:
    retry_after_s = max(retry_after_s, SOONEST_RETRY_S)
    return OverloadedError(f"overloaded: {why}; come again in {retry_after_s:.2g} s", retry_after_s=retry_after_s)
