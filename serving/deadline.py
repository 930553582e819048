"""How long a caller still waits."""

import time

import msgspec

from serving.errors import DeadlineError


class Deadline(msgspec.Struct, frozen=True, kw_only=True):
    """A point in time after which nobody reads the answer."""

    at: float
    """By `time.monotonic()`."""
    timeout_s: float
    """What the caller asked for."""

    @staticmethod
    def after(timeout_s: float) -> "Deadline":
        """Return the deadline of a request that came now."""
        return Deadline(at=time.monotonic() + timeout_s, timeout_s=timeout_s)

    def left_s(self) -> float:
        """Return the seconds left; negative once it has passed."""
        return self.at - time.monotonic()

    def check(self, stage: str) -> None:
        """Raise where the deadline has passed.

        Raises:
            DeadlineError: it has, in `stage`.
        """
        if self.left_s() <= 0:
            raise DeadlineError(stage, self.timeout_s)
