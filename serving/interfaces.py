"""The interfaces between parts of the service: the service itself, the escalator and the observer."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from hybrid.runtime.bundle import Bundle
from hybrid.types import Precision
from serving.errors import ItemError, ServingError
from serving.types import Answer, Deadline, Options, Timings


class Service(Protocol):
    """Answers texts. Every wire protocol calls it, so that all of them share one code path."""

    @property
    def bundle(self) -> Bundle:
        """The manifest of the bundle that serves now."""

    @property
    def bundle_id(self) -> str:
        """The first 12 hex digits of the SHA-256 of its `bundle.json`."""

    @property
    def engine(self) -> str:
        """The library that runs the encoder: a key of `hybrid.runtime.engines.ENGINES`."""

    @property
    def precision(self) -> Precision:
        """What the encoder computes in: the precision of the bundle's graph, or bf16 where the engine lowers fp32 to it."""

    @property
    def folder(self) -> Path:
        """The folder of the bundle that serves now."""

    @property
    def ready(self) -> bool:
        """Whether a request would be accepted now."""

    async def classify(
        self,
        texts: Sequence[str],
        *,
        options: Options,
        deadline: Deadline,
        route: str,
        timings: Timings | None = None,
    ) -> list[Answer | ItemError]:
        """Return one answer per text, in order; an `ItemError` where the engine fails on that text alone.

        The seconds of each stage are written into `timings` if it is given.

        Raises:
            ServingError: the request cannot be answered.
        """

    async def decide(self, text: str, labels: tuple[str, ...], instructions: str, deadline: Deadline) -> Answer:
        """Return the decoder's answer to a question whose options are not the bundle's labels.

        Raises:
            ServingError: the request cannot be answered.
        """

    async def swap(self, folder: str, *, below: Path | None = None) -> str:
        """Replace the bundle that serves with the one in another folder, once that is verified; return its id.

        Where `below` is given, only a folder there is taken.

        Raises:
            BundleError: the new bundle is not sound or lies elsewhere; the old one continues to serve.
        """


class Escalator(Protocol):
    """Answers texts that the encoder is not sure of. Lives on the event loop; shared by all requests."""

    async def escalate(self, bundle: Bundle, text: str, answer: Answer, deadline: Deadline) -> Answer:
        """Return the final answer for a text, given the encoder's `answer`.

        Where the decoder cannot answer, the settings decide: the encoder's answer flagged, or an abstention.

        Raises:
            UnanswerableError: the decoder cannot answer, and the settings make that an error.
            DeadlineError: the caller's deadline passed.
        """

    async def decide(self, text: str, labels: tuple[str, ...], instructions: str, deadline: Deadline) -> Answer:
        """Return the decoder's answer to a question whose options are not the bundle's labels.

        Raises:
            UnanswerableError: there is no decoder, or it cannot answer.
            DeadlineError: the caller's deadline passed.
        """

    async def close(self, within_s: float = ...) -> None:
        """Wait for the calls in progress and close the review store, `within_s` at most."""


class Observer(Protocol):
    """Is notified of events, on the event loop. Each method returns within microseconds and never raises."""

    def answered(
        self, route: str, answers: Sequence[Answer], timings: Timings, seconds: float, texts: Sequence[str] = ()
    ) -> None:
        """Record a request that was answered in `seconds`; `texts` are for the log only."""

    def refused(self, route: str, error: ServingError, seconds: float) -> None:
        """Record a request that was not answered."""

    def batch_ran(self, n_texts: int, tokens: int, padded_tokens: int, seconds: float) -> None:
        """Record one call of the engine; `tokens` excludes padding."""

    def escalation_ended(self, outcome: str, seconds: float, cost_usd: float | None) -> None:
        """Record one question to the decoder.

        `outcome` is answered, undecided, failed, cached, refused_by_breaker or refused_by_spend.
        """

    def breaker_changed(self, state: str) -> None:
        """Record the state of the circuit breaker: closed, open or half-open."""

    def engine_changed(self, state: str, reason: str = "") -> None:
        """Record the state of the engine: starting, ready, dead or hung."""

    def bundle_changed(self, bundle_id: str, *, refused: str = "") -> None:
        """Record a hot swap; `refused` says why the new bundle does not serve."""
