"""A service that does what a test tells it to: for replies that a sound service gives once a year."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from hybrid.runtime.bundle import Bundle, read_bundle
from hybrid.runtime.engines import DEFAULT_ENGINE
from serving.errors import ItemError, UnanswerableError
from serving.types import Answer, Deadline, Options, Timings

Act = Callable[[str], Awaitable[Answer | ItemError]]


class Scripted:
    """Implements `Service` over the manifest of a real bundle; `act` answers each text."""

    bundle_id = "0123456789ab"

    def __init__(self, folder: Path, act: Act) -> None:
        self.bundle: Bundle = read_bundle(folder)
        self.folder = folder
        self.precision = self.bundle.precision
        self.engine = DEFAULT_ENGINE
        self.ready = True
        self.act = act
        self.asked = 0
        self.ended = 0
        self.cancelled = 0
        self.deadlines: list[float] = []
        self.swapped: list[tuple[str, Path | None]] = []

    async def classify(
        self,
        texts: Sequence[str],
        *,
        options: Options,
        deadline: Deadline,
        route: str,
        timings: Timings | None = None,
    ) -> list[Answer | ItemError]:
        self.asked += 1
        self.deadlines.append(deadline.timeout_s)
        if timings is not None:
            timings.tokenise_s, timings.queue_s, timings.inference_s, timings.escalation_s = 0.001, 0.002, 0.003, 0.004
        try:
            results = [await self.act(text) for text in texts]
            self.ended += 1
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return results

    async def decide(self, text: str, labels: tuple[str, ...], instructions: str, deadline: Deadline) -> Answer:
        raise UnanswerableError("no decoder")

    async def swap(self, folder: str, *, below: Path | None = None) -> str:
        self.swapped.append((folder, below))
        return "swapped"


def sure_of(label: str, *, status: str = "accepted") -> Answer:
    """Return an answer with a probability of 0.8."""
    probs = {name: 0.8 if name == label else 0.1 for name in ("bad", "good", "plain")}
    return Answer(
        label=None if status == "abstained" else label,
        labels=() if status == "abstained" else (label,),
        probs=probs,
        confidence=0.8,
        encoder_label=label,
        encoder_confidence=0.8,
        threshold=0.5,
        status=status,  # type: ignore[arg-type]
        source="encoder",
        truncated=False,
        tokens=5,
        bundle_id=Scripted.bundle_id,
    )


async def at_once(text: str) -> Answer | ItemError:
    """Say good."""
    return sure_of("good")
