"""A live service in the event loop of a test, and an observer that remembers."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from serving.errors import ItemError, ServingError
from serving.interfaces import Escalator
from serving.service import ClassifierService
from serving.settings import Settings
from serving.types import Answer, Deadline, Options, Timings


class NullObserver:
    """An observer that does nothing."""

    def answered(
        self, route: str, answers: Sequence[Answer], timings: Timings, seconds: float, texts: Sequence[str] = ()
    ) -> None: ...

    def refused(self, route: str, error: ServingError, seconds: float) -> None: ...

    def batch_ran(self, n_texts: int, tokens: int, padded_tokens: int, seconds: float) -> None: ...

    def escalation_ended(self, outcome: str, seconds: float, cost_usd: float | None) -> None: ...

    def breaker_changed(self, state: str) -> None: ...

    def engine_changed(self, state: str, reason: str = "") -> None: ...

    def bundle_changed(self, bundle_id: str, *, refused: str = "") -> None: ...


class Heard(NullObserver):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.states: list[str] = []
        self.reasons: list[str] = []
        self.batches: list[int] = []
        self.padded = 0
        self.tokens = 0
        self.refusals: list[ServingError] = []
        self.refused_bundles: list[str] = []
        self.timings: list[Timings] = []

    def engine_changed(self, state: str, reason: str = "") -> None:
        self.states.append(state)
        self.reasons.append(reason)

    def batch_ran(self, n_texts: int, tokens: int, padded_tokens: int, seconds: float) -> None:
        self.batches.append(n_texts)
        self.tokens += tokens
        self.padded += padded_tokens

    def answered(
        self, route: str, answers: Sequence[Answer], timings: Timings, seconds: float, texts: Sequence[str] = ()
    ) -> None:
        self.timings.append(timings)

    def refused(self, route: str, error: ServingError, seconds: float) -> None:
        self.refusals.append(error)

    def bundle_changed(self, bundle_id: str, *, refused: str = "") -> None:
        if refused:
            self.refused_bundles.append(refused)


@asynccontextmanager
async def live(
    folder: Path, settings: Settings | None = None, *, heard: Heard | None = None, escalates: Escalator | None = None
) -> AsyncIterator[ClassifierService]:
    service = ClassifierService(folder, settings or Settings(), heard or NullObserver(), escalates)
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


async def ask(
    service: ClassifierService, texts: Sequence[str], *, timeout_s: float = 30.0, **options: object
) -> list[Answer | ItemError]:
    deadline = Deadline.after(timeout_s)
    return await service.classify(texts, options=Options(**options), deadline=deadline, route="test")  # type: ignore[arg-type]
