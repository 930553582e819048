"""The encoder's answers: calibrated, with the threshold applied."""

from collections.abc import Sequence
from itertools import compress

import msgspec
import numpy as np

from hybrid.label_sets import join_labels
from hybrid.runtime.bundle import Bundle
from hybrid.runtime.calibration import apply, decide
from hybrid.runtime.scalar_calibration import probs_of_one, supports
from hybrid.runtime.text_encoder import Encoded, pool
from serving.answers import Answer


class Decided(msgspec.Struct, frozen=True):
    """What the logits of one text come to."""

    labels: tuple[str, ...]
    probs: list[float]
    confidence: float


def encoder_answer(
    bundle: Bundle, bundle_id: str, encoded: Encoded, windows: Sequence[list[float]], threshold: float | None
) -> Answer:
    """Return the answer of the encoder, from the logits of each window of a text."""
    found = decided(bundle, windows)
    limit = bundle.threshold.value if threshold is None else threshold
    label = found.labels[0] if bundle.task == "single_label" else join_labels(found.labels)
    return Answer(
        label=label,
        labels=found.labels,
        probs=dict(zip(bundle.labels, found.probs, strict=True)),
        confidence=found.confidence,
        encoder_label=label,
        encoder_confidence=found.confidence,
        threshold=limit,
        status="accepted" if found.confidence >= limit else "escalated",
        source="encoder",
        truncated=encoded.truncated,
        tokens=len(encoded),
        bundle_id=bundle_id,
    )


def decided(bundle: Bundle, windows: Sequence[list[float]]) -> Decided:
    """Return labels, calibrated probabilities and confidence of one text."""
    if len(windows) == 1 and supports(bundle.calibration, len(bundle.labels)):
        probs = probs_of_one(bundle.calibration, windows[0])
        confidence = max(probs)
        return Decided((bundle.labels[probs.index(confidence)],), probs, confidence)
    logits = pool(np.array(windows, dtype=np.float32), [len(windows)], bundle.reading)
    rows = apply(bundle.calibration, logits)
    all_decided = decide(bundle.calibration, rows)
    labels = tuple(sorted(compress(bundle.labels, all_decided.chosen[0].tolist())))
    return Decided(labels, rows[0].tolist(), float(all_decided.confidence[0]))
