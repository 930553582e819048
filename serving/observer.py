"""What the service tells of its work: metrics, drift and the page listen."""

from collections.abc import Sequence
from typing import Protocol

from serving.answers import Answer, Timings
from serving.errors import ServingError


class Observer(Protocol):
    """Hears what happens, on the event loop; each call returns in microseconds and raises nothing."""

    def answered(
        self, route: str, answers: Sequence[Answer], timings: Timings, seconds: float, texts: Sequence[str] = ()
    ) -> None:
        """Note a request that was answered, and how long it took as a whole; the texts are for the log alone."""

    def refused(self, route: str, error: ServingError, seconds: float) -> None:
        """Note a request that got no answer."""

    def batch_ran(self, n_texts: int, tokens: int, padded_tokens: int, seconds: float) -> None:
        """Note one call of the engine; `tokens` without the padding."""

    def escalation_ended(self, outcome: str, seconds: float, cost_usd: float | None) -> None:
        """Note one question to the decoder; outcome: answered, undecided, failed, cached, refused_by_breaker,
        refused_by_spend."""

    def breaker_changed(self, state: str) -> None:
        """Note the state of the circuit breaker: closed, open or half-open."""

    def engine_changed(self, state: str, reason: str = "") -> None:
        """Note what became of the engine: ready, dead, hung or starting."""

    def bundle_changed(self, bundle_id: str, *, refused: str = "") -> None:
        """Note a hot swap; `refused` says why the new bundle does not serve."""
