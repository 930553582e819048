"""The cascade: the encoder answers what it is sure of, the decoder is asked about the rest."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np

from hybrid.errors import DataError
from hybrid.runtime.bundle import Bundle, read_bundle
from hybrid.runtime.calibration import apply
from hybrid.runtime.encoder import Encoder
from hybrid.types import Prediction, Vote


class Decides(Protocol):
    """What answers an escalated text: `hybrid.runtime.decoder.Decoder`, or anything like it."""

    def decide(self, texts: Sequence[str]) -> Sequence[Vote]:
        """Return one vote a text, in their order."""


class Classifier:
    """A bundle, ready to answer. Safe to share between threads."""

    def __init__(self, bundle: Bundle, encoder: Encoder, decoder: Decides | None = None) -> None:
        self.bundle = bundle
        self._encoder = encoder
        self._decoder = decoder

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Return the encoder's logits, float32 of shape [n, k]."""
        return self._encoder.logits(_checked(texts))

    def probs(self, texts: Sequence[str]) -> np.ndarray:
        """Return the calibrated probabilities, float64 of shape [n, k], in the order of the labels."""
        return apply(self.bundle.calibration, self.logits(texts))

    def classify(self, texts: Sequence[str], *, threshold: float | None = None) -> list[Prediction]:
        """Return a prediction a text, in their order.

        A text whose confidence is below `threshold` (the bundle's where None) has `escalate` set.
        With a decoder it is asked about those; where it cannot answer, the encoder's answer stands
        and `escalation` says so.

        Raises:
            DataError: a text is not a string, or is empty.
        """
        if not texts:
            return []
        encoded = self._encoder.encode(_checked(texts))
        probs = apply(self.bundle.calibration, self._encoder.run(encoded))
        limit = self.bundle.threshold.value if threshold is None else threshold
        found = [self._predict(row, one.truncated, limit) for row, one in zip(probs, encoded, strict=True)]
        return self._escalate(texts, found)

    def _predict(self, probs: np.ndarray, truncated: bool, threshold: float) -> Prediction:
        best = int(probs.argmax())
        return Prediction(
            label=self.bundle.labels[best],
            confidence=float(probs[best]),
            probs=dict(zip(self.bundle.labels, map(float, probs), strict=True)),
            escalate=bool(probs[best] < threshold),
            truncated=truncated,
        )

    def _escalate(self, texts: Sequence[str], found: list[Prediction]) -> list[Prediction]:
        unsure = [i for i, prediction in enumerate(found) if prediction.escalate]
        if self._decoder is None or not unsure:
            return found
        for i, vote in zip(unsure, self._decoder.decide([texts[i] for i in unsure]), strict=True):
            found[i] = with_vote(found[i], vote)
        return found


def with_vote(prediction: Prediction, vote: Vote) -> Prediction:
    """Return the prediction after the decoder spoke: its label where it gave one, else the encoder's."""
    if vote.status == "ok" and vote.label is not None:
        return msgspec.structs.replace(
            prediction, label=vote.label, source="decoder", escalation="answered", rationale=vote.rationale
        )
    escalation = "undecided" if vote.status in ("abstained", "unreadable") else "failed"
    return msgspec.structs.replace(prediction, escalation=escalation, rationale=vote.reason)


def load(folder: str | Path, *, decoder: Decides | None = None, threads: int | None = None) -> Classifier:
    """Return the classifier of a bundle.

    Raises:
        BundleError: the folder is no bundle, or a file of it was changed.
    """
    path = Path(folder)
    bundle = read_bundle(path)
    return Classifier(bundle, Encoder(path, n_labels=len(bundle.labels), threads=threads), decoder)


def _checked(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        raise DataError("classify: one string came; want a list of texts: put it in brackets")
    for number, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"classify: text {number} is {text!r:.40}; want a string that is not empty")
    return list(texts)
