"""What the tests of escalation share: a bundle's manifest, the encoder's answer, an observer that remembers."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from hybrid.runtime.bundle import MANIFEST, Bundle, sealed
from hybrid.runtime.calibration import Calibration, Threshold
from hybrid.runtime.combination import Reliability, Weights
from hybrid.runtime.text_encoder import TextLimits
from serving.decoder.handler import EscalationHandler
from serving.decoder.open_decoder import open_decoder
from serving.errors import ServingError
from serving.settings import DecoderSettings, Settings
from serving.types import Answer, Deadline, Timings
from tests.messages_server import Act, Handler, label

LABELS = ("bad", "good", "plain")
RELIABLE = Reliability(
    model="judge",
    likelihood=((0.9, 0.05, 0.05), (0.05, 0.9, 0.05), (0.1, 0.1, 0.8)),
    plain=Weights(encoder=1.0, decoder=1.0),
    accuracy=0.87,
    n_rows=300,
)
BUNDLE = Bundle(
    name="dishes",
    recipe_hash="0",
    labels=LABELS,
    reading=TextLimits(max_length=32),
    encoder="tiny",
    vocabulary=10,
    calibration=Calibration(),
    threshold=Threshold(value=0.8, target=0.9, delta=0.1, n_rows=90, kept=0.5, met=True),
    golden=(),
    files={},
    versions={},
    decoder=RELIABLE,
)
UNSURE = Answer(
    label="good",
    labels=("good",),
    probs={"bad": 0.3, "good": 0.6, "plain": 0.1},
    confidence=0.6,
    encoder_label="good",
    encoder_confidence=0.6,
    threshold=0.8,
    status="escalated",
    source="encoder",
    truncated=False,
    tokens=7,
    bundle_id="0123456789ab",
)


class RecordingObserver:
    """Remembers what the service reports."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []
        self.costs: list[float | None] = []
        self.states: list[str] = []

    def answered(self, route: str, answers: Sequence[Answer], timings: Timings, seconds: float) -> None:
        pass

    def refused(self, route: str, error: ServingError, seconds: float) -> None:
        pass

    def batch_ran(self, n_texts: int, tokens: int, padded_tokens: int, seconds: float) -> None:
        pass

    def escalation_ended(self, outcome: str, seconds: float, cost_usd: float | None) -> None:
        self.outcomes.append(outcome)
        self.costs.append(cost_usd)

    def breaker_changed(self, state: str) -> None:
        self.states.append(state)

    def engine_changed(self, state: str, reason: str = "") -> None:
        pass

    def bundle_changed(self, bundle_id: str, *, refused: str = "") -> None:
        pass


def opened(
    folder: Path, url: str, observer: RecordingObserver | None = None, *, reviews: str = "", **decoder: Any
) -> EscalationHandler:
    """Return the decoder behind a service whose settings name the server at `url`, its store in `folder`."""
    bundle = folder / "bundle"
    bundle.mkdir(exist_ok=True)
    (bundle / MANIFEST).write_bytes(msgspec.json.encode(sealed(BUNDLE)))
    section = DecoderSettings(model="judge", base_url=url, **decoder)
    handler = open_decoder(Settings(decoder=section, reviews=reviews), bundle, observer or RecordingObserver())
    assert handler is not None
    return handler


async def escalated(
    handler: EscalationHandler, text: str = "The soup.", *, timeout_s: float = 20.0, bundle: Bundle = BUNDLE
) -> Answer:
    return await handler.escalate(bundle, text, UNSURE, Deadline.after(timeout_s))


def after(seconds: float) -> Act:
    """Answer late."""
    act = label("bad")

    def act_late(handler: Handler, body: dict[str, Any]) -> None:
        time.sleep(seconds)
        act(handler, body)

    return act_late


def once_released(released: threading.Event) -> Act:
    """Keep silent until the event is set."""
    act = label("bad")

    def act_then(handler: Handler, body: dict[str, Any]) -> None:
        released.wait(60)
        act(handler, body)

    return act_then
