"""The circuit breaker: a decoder that fails several times in a row gets no calls for a while, and then a single one.

Fowler, "CircuitBreaker", 2014. The breakers of the package index let any number of calls through while half-open, and
have no notion of an inconclusive call, such as one that its caller cut short.
"""

import time
from collections.abc import Callable
from typing import Literal, NewType

State = Literal["closed", "open", "half-open"]
Permit = NewType("Permit", int)
"""Allows one call. It is valid until the state changes next."""


class Breaker:
    """Admits calls while the decoder works. Not thread-safe: it lives on the event loop.

    closed: every call is admitted; `failures` failures in a row open it. open: no call is admitted; after `rest_s`
    seconds it is half-open. half-open: one call at a time is admitted; the first conclusive one closes or opens it.
    """

    def __init__(
        self,
        *,
        failures: int,
        rest_s: float,
        on_change: Callable[[State], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Start closed; `on_change` is called with each new state."""
        self.state: State = "closed"
        """The state at the last `admit` or `report`."""
        self._failures = failures
        self._rest_s = rest_s
        self._on_change = on_change
        self._clock = clock
        self._failed_in_a_row = 0
        self._opened_at = 0.0
        self._is_probing = False
        self._period = Permit(0)
        """The number of state changes so far."""

    def admit(self) -> Permit | None:
        """Return the permit for a call, which must be handed to `report` in the end; None where no call may be made."""
        if self.state == "open" and self._clock() >= self._opened_at + self._rest_s:
            self._change("half-open")
        if self.state == "open" or self._is_probing:
            return None
        self._is_probing = self.state == "half-open"
        return self._period

    def report(self, permit: Permit, healthy: bool | None) -> None:
        """Note how a call ended: whether the decoder works, or None where the call is no evidence either way.

        A call that was admitted in an earlier state is ignored: it is no evidence about the decoder's present state.
        """
        if permit != self._period:
            return
        self._is_probing = False
        if healthy:
            self._failed_in_a_row = 0
            if self.state == "half-open":
                self._change("closed")
        elif healthy is False:
            self._failed_in_a_row += 1
            if self.state == "half-open" or self._failed_in_a_row >= self._failures:
                self._opened_at = self._clock()
                self._change("open")

    def _change(self, state: State) -> None:
        self.state = state
        self._period = Permit(self._period + 1)
        self._is_probing = False
        self._failed_in_a_row = 0
        self._on_change(state)
