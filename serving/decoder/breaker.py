"""The circuit breaker: a decoder that fails again and again is left alone for a while, then asked once."""

from collections.abc import Callable
from typing import Literal

from purgatory import AsyncCircuitBreakerFactory
from purgatory.domain.model import OpenedState
from purgatory.service._async.circuitbreaker import AsyncCircuitBreaker

State = Literal["closed", "open", "half-open"]
_STATES: dict[str, State] = {"closed": "closed", "opened": "open", "half-opened": "half-open"}
_NAME = "decoder"


class DecoderDownError(Exception):
    """A call to the decoder failed in a way that speaks of the decoder and not of the text."""


class Breaker:
    """Counts failures in a row (purgatory); half-open it lets one call through, whose end decides for all."""

    def __init__(self, *, failures: int, rest_s: float, changed: Callable[[State], None]) -> None:
        """Be closed; `changed` hears every new state."""
        self._factory = AsyncCircuitBreakerFactory(default_threshold=failures, default_ttl=rest_s)
        self._circuit: AsyncCircuitBreaker | None = None
        self._changed = changed
        self._said: State = "closed"
        self._probing = False

    @property
    def state(self) -> State:
        """The state as it was at the last call."""
        return self._said

    async def admits(self) -> bool:
        """Return whether a call may be made; each that may must end in `ended`."""
        if self._circuit is None:
            self._circuit = await self._factory.get_breaker(_NAME)
        if self._probing:
            return False
        try:
            await self._circuit.__aenter__()
        except OpenedState:
            return False
        self._tell()
        self._probing = self._said == "half-open"
        return True

    async def ended(self, verdict: bool | None) -> None:
        """Hear how a call ended: True well, False badly, None in a way that says nothing of the decoder."""
        self._probing = False
        if verdict is None or self._circuit is None:
            return
        error = None if verdict else DecoderDownError()
        await self._circuit.__aexit__(type(error) if error else None, error, None)
        self._tell()

    def _tell(self) -> None:
        assert self._circuit is not None
        state = _STATES[self._circuit.context.state]
        if state != self._said:
            self._said = state
            self._changed(state)
