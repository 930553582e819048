"""The cascade: the encoder answers what it is sure of, the decoder is asked about the rest."""

import logging
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

import msgspec
import numpy as np

from hybrid.errors import BundleError, ConfigError, DataError, GoldenError
from hybrid.runtime.bundle import FALLBACK, Bundle, bundle_path, graph_for, read_bundle
from hybrid.runtime.calibration import apply
from hybrid.runtime.decision import predict, with_vote
from hybrid.runtime.decoder_choice import Decoder, DecoderChoice, open_decoder
from hybrid.runtime.encoder import Encoder
from hybrid.runtime.engines import DEFAULT_ENGINE
from hybrid.runtime.evidence import evidence_words, no_evidence
from hybrid.runtime.explain import Explanation, Word, without_each, words_of
from hybrid.runtime.frames import answers_frame, is_frame, texts_in
from hybrid.runtime.integrity import check_golden
from hybrid.runtime.made_with import other_versions
from hybrid.types import BF16, Precision, Prediction

_log = logging.getLogger(__name__)
Frame = TypeVar("Frame")
"""A DataFrame of pandas or of polars."""


class Classifier:
    """A bundle, ready to answer. Safe to share between threads."""

    def __init__(self, bundle: Bundle, encoder: Encoder, decoder: Decoder | None = None) -> None:
        """Join the parts of a loaded bundle; `load` is what a user calls."""
        self.bundle = bundle
        self._encoder = encoder
        self._decoder = decoder

    @property
    def engine(self) -> str:
        """The library that runs the encoder: a key of `hybrid.runtime.engines.ENGINES`."""
        return self._encoder.engine

    @property
    def precision(self) -> Precision:
        """What the encoder computes in here: the precision of the bundle's graph, or bf16 where the engine lowers fp32 to it."""
        return BF16 if self._encoder.in_bf16 else self.bundle.precision

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        """Compute the encoder's logits, float32 of shape [n, k], in the order of the bundle's labels.

        Raises:
            DataError: a text is not a string, or is empty.
        """
        return self._encoder.logits(_checked(texts))

    def probs(self, texts: Sequence[str]) -> np.ndarray:
        """Compute the calibrated probabilities, float64 of shape [n, k], in the order of the bundle's labels.

        Raises:
            DataError: a text is not a string, or is empty.
        """
        return apply(self.bundle.calibration, self.logits(texts))

    @property
    def has_evidence(self) -> bool:
        """Whether it can tell the evidence words of an answer: its encoder was trained with `train.evidence`."""
        return self._encoder.has_evidence

    @overload
    def classify(
        self, texts: Sequence[str], *, threshold: float | None = None, evidence: bool = False
    ) -> list[Prediction]: ...

    @overload
    def classify(self, texts: Frame, *, text: str, threshold: float | None = None, evidence: bool = False) -> Frame: ...

    def classify(self, texts: Any, *, text: str = "", threshold: float | None = None, evidence: bool = False) -> Any:
        """Predict the label of each text, in their order.

        A text escalates where its confidence is below `threshold`, the bundle's where None. A decoder is asked about
        those texts, and its vote is weighed with the encoder's probabilities where the bundle has measured how reliable
        that decoder is. Where it gives no label, the encoder's answer stands, and `escalation` and `reason` say so.

        Args:
            texts: the texts, or a DataFrame of pandas or polars whose column `text` holds them. A frame gives a frame of
                the same kind, with the same index: the fields of the predictions as columns (`label`, `confidence`,
                `escalate`, `status`, `source`, `escalation`, `rationale`, `reason`, `truncated`), and `prob_LABEL` for
                each label; and with `evidence` a column of that name, the words in a list.
            text: the name of that column; for frames alone.
            threshold: the confidence below which a text escalates, 0 to 1.
            evidence: whether each prediction has its evidence words: those that the encoder's second head takes for what
                a teacher's reason would quote. They come out of the same pass. They are the encoder's, also where a decoder
                decides.

        Raises:
            DataError: a text is not a string, or is empty; or the frame has no such column.
            ConfigError: evidence words of a bundle without an evidence head.
        """
        if evidence and not self.has_evidence:
            raise ConfigError(no_evidence(self.bundle.name))
        if is_frame(texts):
            predictions = self._predictions(texts_in(texts, text), threshold, evidence=evidence)
            return answers_frame(texts, predictions, self.bundle.labels)
        if text:
            raise DataError(f"classify: text = {text!r} with a {type(texts).__name__}; expected a DataFrame beside it")
        return self._predictions(texts, threshold, evidence=evidence)

    def classify_alike(self, texts: Sequence[str], *, threshold: float | None = None) -> list[Prediction]:
        """Predict as `classify` does, with the same bits whatever the number of threads; the other texts of the call do matter.

        Raises:
            DataError: a text is not a string, or is empty.
        """
        return self._predictions(texts, threshold, threads_alike=True)

    def _predictions(
        self, texts: Sequence[str], threshold: float | None, *, evidence: bool = False, threads_alike: bool = False
    ) -> list[Prediction]:
        if not texts:
            return []
        encoded = self._encoder.encode(_checked(texts), offsets=evidence)
        outputs = self._encoder.run_with_evidence(encoded, threads_alike=threads_alike)
        predictions = predict(
            self.bundle, outputs.logits, truncated=[text.truncated for text in encoded], threshold=threshold
        )
        if evidence:
            words = map(evidence_words, texts, encoded, outputs.token_logits)
            predictions = [
                msgspec.structs.replace(prediction, evidence=of_text)
                for prediction, of_text in zip(predictions, words, strict=True)
            ]
        return self._escalate(texts, predictions)

    def explain(self, text: str, *, label: str | None = None) -> Explanation:
        """Measure how much each word of the text contributes to its answer, by the encoder.

        The answer is the most probable label, or `label` where it is given.

        Raises:
            DataError: the text is not a string or is empty, or the bundle does not know the label.
        """
        _checked([text])
        if label is not None and label not in self.bundle.labels:
            raise DataError(f"explain: label {label!r}; expected one of {', '.join(self.bundle.labels)}")
        spans = words_of(text)
        masked = list(without_each(text, spans, self._encoder.mask_token))
        probs = apply(self.bundle.calibration, self._encoder.logits([text, *masked]))
        answer = int(probs[0].argmax()) if label is None else self.bundle.labels.index(label)
        prob = float(probs[0, answer])
        return Explanation(
            label=self.bundle.labels[answer],
            probability=prob,
            words=tuple(
                Word(text=text[start:end], start=start, end=end, drop=prob - float(prob_without))
                for (start, end), prob_without in zip(spans, probs[1:, answer], strict=True)
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
    folder: str | Path,
    *,
    decoder: DecoderChoice = None,
    budget_usd: float | None = None,
    engine: str = DEFAULT_ENGINE,
    threads: int | None = None,
    spin_wait: bool = False,
    dedicated: bool | None = None,
) -> Classifier:
    """Load the classifier of a bundle, and check that its golden texts get the probabilities that they should.

    Args:
        folder: the folder of a bundle, or "demo" for the small one that ships with the package.
        decoder: decides the texts of which the encoder is not sure: the name of a model ("claude-...", or "local" for the
            small one that is fetched from the package index), the path of a .gguf file, the URL of a server of the
            Messages protocol, a function from a text to its label, any `hybrid.Decoder`, or a dict with the settings of
            a recipe's [decoder] section, such as `{"model": "qwen", "base_url": "http://127.0.0.1:8000"}`.
        budget_usd: the most that the calls to a paid decoder may cost in this process; from then on the encoder's answers
            stand.
        engine: the library that runs the encoder: `onnxruntime`, or one that runs the bundle's fp32 graph, so that the bundle
            is in fp32 or portable: `openvino` (extra `openvino`; in bf16 where the processor multiplies that) or `cuda`
            (where onnxruntime-gpu is installed).
        threads: the processors to use; by default those that this process may use: its affinity mask, or its container's
            CPU quota. A call with several texts runs a batch on each thread at once; for that, a graph of up to 128 MB is
            then in memory twice.
        spin_wait: suits processors that have nothing else to do: idle threads spin, and an answer comes a little sooner.
        dedicated: the former name of `spin_wait`.

    Raises:
        BundleError: the folder is no bundle, a file of it was changed, its parts do not fit each other, it has no graph
            that the engine takes, or this machine computes something else.
        ConfigError: no such decoder is known, or one is given for a bundle that gives several labels a text; an engine that
            does not exist or cannot run here.
        LLMError: the decoder's key, package or model file is missing.
    """
    if dedicated is not None:
        warnings.warn("load: `dedicated` is now `spin_wait`; pass that instead", DeprecationWarning, stacklevel=2)
        spin_wait = dedicated
    path = bundle_path(folder)
    bundle = read_bundle(path)
    if (graph := graph_for(path, bundle, engine)) != path:
        path, bundle = graph, read_bundle(graph)
    if decoder is not None and bundle.task == "multi_label":
        raise ConfigError(
            f"{path}: got a decoder for a multi_label bundle, and it decides one label a text; load the bundle without "
            "it, and take what has `escalate` set to a person or to a model of your own"
        )
    opened = partial(
        _load,
        decoder=open_decoder(decoder, bundle, budget_usd=budget_usd),
        engine=engine,
        threads=threads,
        spin_wait=spin_wait,
    )
    try:
        return opened(path, bundle)
    except GoldenError as error:
        if not bundle.fallback:
            raise
        _log.warning("%s; its %s graph answers instead", error, FALLBACK)
    path = path / FALLBACK
    return opened(path, read_bundle(path))


def _load(
    path: Path, bundle: Bundle, *, decoder: Decoder | None, engine: str, threads: int | None, spin_wait: bool
) -> Classifier:
    encoder = Encoder(
        path,
        n_labels=len(bundle.labels),
        reading=bundle.reading,
        threads=threads,
        spin_wait=spin_wait,
        engine=engine,
    )
    if encoder.vocabulary > bundle.vocabulary:
        raise BundleError(
            f"{path}: the tokenizer knows {encoder.vocabulary} tokens and the encoder {bundle.vocabulary}; "
            "they are not of one model: rerun the recipe"
        )
    if encoder.has_evidence != (bundle.evidence is True):
        raise BundleError(f"{path}: manifest and graph differ on whether there is an evidence head; rerun the recipe")
    classifier = Classifier(bundle, encoder, decoder)
    probs = classifier.probs([example.text for example in bundle.golden])
    others = other_versions(bundle.versions)
    check_golden(
        bundle.golden,
        probs,
        precision=classifier.precision,
        folder=path,
        engine=engine,
        other_versions=others,
    )
    if others:
        _log.info("%s: made with %s; its golden texts hold", path, others)
    if engine != DEFAULT_ENGINE:
        _log.info("%s: the engine %s computes it in %s", path, engine, classifier.precision)
    return classifier


def _checked(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        raise DataError("classify: expected a list of texts, got one string: put it in brackets")
    for number, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"classify: text {number} is {text!r:.40}; expected a string that is not empty")
    return list(texts)


if not TYPE_CHECKING:  # a type checker would take any name for one that this gives

    def __getattr__(name: str) -> object:
        """Give the protocol `Decoder` by its former name too."""
        if name == "Decides":
            warnings.warn("hybrid.runtime.cascade.Decides is now hybrid.Decoder", DeprecationWarning, stacklevel=2)
            return Decoder
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
