"""Answers by hand, for what listens to a service."""

import numpy as np

from hybrid.calibration.reference import counts_by_label, histogram
from hybrid.runtime.bundle import Bundle
from hybrid.runtime.calibration import Calibration, Threshold
from hybrid.runtime.calibration_reference import Point, Reference
from hybrid.runtime.text_encoder import TextLimits
from serving.types import Answer

LABELS = ("bad", "good", "plain")
THRESHOLD = 0.7
BUNDLE_ID = "0123456789ab"


def answer(label: str = "good", confidence: float = 0.9, tokens: int = 12, bundle_id: str = BUNDLE_ID) -> Answer:
    rest = (1 - confidence) / 2
    escalated = confidence < THRESHOLD
    return Answer(
        label=label,
        labels=(label,),
        probs={item: confidence if item == label else rest for item in LABELS},
        confidence=confidence,
        encoder_label=label,
        encoder_confidence=confidence,
        threshold=THRESHOLD,
        status="escalated" if escalated else "accepted",
        source="encoder",
        truncated=False,
        tokens=tokens,
        bundle_id=bundle_id,
    )


def traffic(
    n_texts: int,
    seed: int,
    *,
    confidence: tuple[float, float] = (5.0, 1.5),
    labels: tuple[float, float, float] = (0.4, 0.45, 0.15),
    tokens: float = 20.0,
) -> list[Answer]:
    """Return answers drawn at random: confidences from a beta, labels by share, lengths from a gamma of that mean."""
    rng = np.random.default_rng(seed)
    confidences = rng.beta(*confidence, n_texts).tolist()
    called = rng.choice(LABELS, n_texts, p=labels).tolist()
    lengths = (2 + rng.gamma(3, tokens / 3, n_texts)).astype(int).tolist()
    return [answer(*item) for item in zip(called, confidences, lengths, strict=True)]


def reference_of(answers: list[Answer]) -> Reference:
    """Return the reference that a calibrate stage would write, had its rows been answered so."""
    point = Point(threshold=THRESHOLD, kept=0.8, accuracy=0.9, lower_bound=0.88)
    return Reference(
        n_rows=len(answers),
        trusted=True,
        confidence=histogram([answer.encoder_confidence for answer in answers]),
        labels=counts_by_label([item.encoder_label for item in answers]),
        tokens=histogram([entry.tokens for entry in answers]),
        escalated=sum(scored.encoder_confidence < THRESHOLD for scored in answers),
        delta=0.1,
        curve=(point,),
    )


def bundle_with(reference: Reference | None, labels: tuple[str, ...] = LABELS) -> Bundle:
    return Bundle(
        name="dishes",
        recipe_hash="0" * 64,
        labels=labels,
        reading=TextLimits(max_length=64),
        encoder="tiny",
        vocabulary=400,
        calibration=Calibration(),
        threshold=Threshold(value=THRESHOLD, target=0.9, delta=0.1, n_rows=600, kept=0.8, met=True),
        reference=reference,
        golden=(),
        files={},
        versions={},
    )
