"""The encoder's answers: what `hybrid.runtime.decision` makes of the engine's logits, with what the service adds."""

from collections.abc import Sequence

import numpy as np

from hybrid.runtime.bundle import Bundle
from hybrid.runtime.decision import predict_one
from hybrid.runtime.text_encoder import Encoded, pool
from serving.answers import Answer


def encoder_answer(
    bundle: Bundle, bundle_id: str, encoded: Encoded, windows: Sequence[list[float]], threshold: float | None
) -> Answer:
    """Answer one text from the logits [k] of each of its windows; `threshold` is the bundle's where None."""
    logits = windows[0] if len(windows) == 1 else _pooled(bundle, windows)
    prediction = predict_one(bundle, logits, truncated=encoded.truncated, threshold=threshold)
    return Answer(
        label=prediction.label,
        labels=prediction.labels,
        probs=prediction.probs,
        confidence=prediction.confidence,
        encoder_label=prediction.label,
        encoder_confidence=prediction.confidence,
        threshold=bundle.threshold.value if threshold is None else threshold,
        status=prediction.status,
        source="encoder",
        truncated=prediction.truncated,
        tokens=len(encoded),
        bundle_id=bundle_id,
    )


def _pooled(bundle: Bundle, windows: Sequence[list[float]]) -> list[float]:
    pooled: list[float] = pool(np.array(windows, dtype=np.float32), [len(windows)], bundle.reading)[0].tolist()
    return pooled
