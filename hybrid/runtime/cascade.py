"""The cascade: the encoder answers what it is sure of, the decoder is asked about the rest."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from hybrid.errors import BundleError, ConfigError, DataError
from hybrid.runtime.bundle import Bundle, read_bundle
from hybrid.runtime.calibration import apply
from hybrid.runtime.decision import predict, with_vote
from hybrid.runtime.encoder import Encoder
from hybrid.runtime.explain import Explanation, Word, without_each, words_of
from hybrid.runtime.golden import check_golden
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
        With a decoder it is asked about those, and its vote is weighed with the encoder's probabilities where the
        bundle knows how far to believe it; where it cannot answer, the encoder's answer stands and `escalation` says so.

        Raises:
            DataError: a text is not a string, or is empty.
        """
        if not texts:
            return []
        encoded = self._encoder.encode(_checked(texts))
        predictions = predict(
            self.bundle,
            self._encoder.run(encoded),
            truncated=[text.truncated for text in encoded],
            threshold=threshold,
        )
        return self._escalate(texts, predictions)

    def explain(self, text: str, *, label: str | None = None) -> Explanation:
        """Return how much each word of the text carries its answer, by the encoder.

        The answer is the most probable label, or `label` where it is given.

        Raises:
            DataError: the text is not a string or is empty, or the bundle does not know the label.
        """
        _checked([text])
        if label is not None and label not in self.bundle.labels:
            raise DataError(f"explain: label {label!r}; want one of {', '.join(self.bundle.labels)}")
        spans = words_of(text)
        hidden = list(without_each(text, spans, self._encoder.mask_token))
        probs = apply(self.bundle.calibration, self._encoder.logits([text, *hidden]))
        answer = int(probs[0].argmax()) if label is None else self.bundle.labels.index(label)
        whole, rest = float(probs[0, answer]), probs[1:, answer]
        return Explanation(
            label=self.bundle.labels[answer],
            probability=whole,
            words=tuple(
                Word(text=text[start:end], start=start, end=end, fall=whole - float(without))
                for (start, end), without in zip(spans, rest, strict=True)
            ),
        )

    def _escalate(self, texts: Sequence[str], predictions: list[Prediction]) -> list[Prediction]:
        unsure = [i for i, prediction in enumerate(predictions) if prediction.escalate]
        if self._decoder is None or not unsure:
            return predictions
        for i, vote in zip(unsure, self._decoder.decide([texts[i] for i in unsure]), strict=True):
            predictions[i] = with_vote(predictions[i], vote, self.bundle.decoder)
        return predictions


def load(
    folder: str | Path, *, decoder: Decides | None = None, threads: int | None = None, dedicated: bool = False
) -> Classifier:
    """Return the classifier of a bundle, after it gave its golden texts the probabilities that it should.

    `threads` defaults to the processors that this process may use and is paid for. `dedicated` says that they have
    nothing else to do: idle threads spin, and an answer comes a little sooner. A call with several texts runs a batch on
    each thread at once; for that, a graph of up to 128 MB is then in memory twice.

    Raises:
        BundleError: the folder is no bundle, a file of it was changed, its parts do not fit each other, or this
            machine computes something else.
        ConfigError: a decoder for a bundle that gives several labels a text.
    """
    path = Path(folder)
    bundle = read_bundle(path)
    if decoder is not None and bundle.task == "multi_label":
        raise ConfigError(
            f"{path}: a decoder came for a multi_label bundle, and it decides one label a text; load the bundle without "
            "it, and take what has `escalate` set to a person or to a model of your own"
        )
    encoder = Encoder(path, n_labels=len(bundle.labels), reading=bundle.reading, threads=threads, dedicated=dedicated)
    if encoder.vocabulary > bundle.vocabulary:
        raise BundleError(
            f"{path}: the tokenizer knows {encoder.vocabulary} tokens and the encoder {bundle.vocabulary}; "
            "they are not of one model: rerun the recipe"
        )
    classifier = Classifier(bundle, encoder, decoder)
    probs = classifier.probs([one.text for one in bundle.golden])
    check_golden(bundle.golden, probs, precision=bundle.precision, folder=path)
    return classifier


def _checked(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        raise DataError("classify: one string came; want a list of texts: put it in brackets")
    for number, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"classify: text {number} is {text!r:.40}; want a string that is not empty")
    return list(texts)
