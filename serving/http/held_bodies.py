"""Counts the bytes of all bodies in the service, from their first byte to the reply, and refuses one too many."""

from collections.abc import Iterator
from contextlib import contextmanager

from serving.errors import OverloadedError

RETRY_AFTER_S = 0.5


class HeldBodies:
    """The bytes of bodies that all requests hold together. Lives on the event loop."""

    def __init__(self, max_bytes: int) -> None:
        self.n_bytes = 0
        self._max_bytes = max_bytes

    @contextmanager
    def of_request(self) -> Iterator["HeldBody"]:
        """Hold one body for as long as the block runs."""
        body = HeldBody(self)
        try:
            yield body
        finally:
            self.n_bytes -= body.n_bytes

    def take(self, n_bytes: int, own: int) -> None:
        """Count more bytes of a body that has `own` already.

        Raises:
            OverloadedError: with them the service would hold more than it may; a body alone is not refused.
        """
        if self.n_bytes > own and self.n_bytes + n_bytes > self._max_bytes:
            raise OverloadedError(
                f"overloaded: bodies of {self.n_bytes} bytes are in the service, of at most {self._max_bytes}; "
                f"try again in {RETRY_AFTER_S:g} s",
                retry_after_s=RETRY_AFTER_S,
            )
        self.n_bytes += n_bytes


class HeldBody:
    """The bytes of one request's body."""

    def __init__(self, held: HeldBodies) -> None:
        self.n_bytes = 0
        self._held = held

    def add(self, n_bytes: int) -> None:
        """Count more bytes.

        Raises:
            OverloadedError: the service holds too many.
        """
        self._held.take(n_bytes, self.n_bytes)
        self.n_bytes += n_bytes
