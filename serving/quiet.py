"""An observer for who does not listen."""

from collections.abc import Sequence

from serving.answers import Answer, Timings
from serving.errors import ServingError


class Quiet:
    """Hears everything and does nothing."""

    def answered(
        self, route: str, answers: Sequence[Answer], timings: Timings, seconds: float, texts: Sequence[str] = ()
    ) -> None:
        """Ignore it."""

    def refused(self, route: str, error: ServingError, seconds: float) -> None:
        """Ignore it."""

    def batch_ran(self, n_texts: int, tokens: int, padded_tokens: int, seconds: float) -> None:
        """Ignore it."""

    def escalation_ended(self, outcome: str, seconds: float, cost_usd: float | None) -> None:
        """Ignore it."""

    def breaker_changed(self, state: str) -> None:
        """Ignore it."""

    def engine_changed(self, state: str, reason: str = "") -> None:
        """Ignore it."""

    def bundle_changed(self, bundle_id: str, *, refused: str = "") -> None:
        """Ignore it."""
