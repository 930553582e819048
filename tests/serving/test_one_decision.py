"""One decision: the library, the service and the evaluation give a text the same answer, whatever the decoder does."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hybrid.client
from hybrid.config import EvaluateConfig
from hybrid.evaluation.bundle_scores import Answers, evaluate, evaluate_sets
from hybrid.evaluation.metrics import NullEce
from hybrid.runtime.bundle import Bundle
from hybrid.runtime.calibration import FEW_LABELS, NOTHING_KEPT, Calibration, Knots, apply
from hybrid.runtime.cascade import Classifier
from hybrid.runtime.combination import Reliability, Weights
from hybrid.runtime.encoder import TextOutputs
from hybrid.runtime.text_encoder import Encoded
from hybrid.types import AnswerStatus, Example, Judged, Prediction, Vote
from serving.bundle_loading import LoadedBundle
from serving.decoder.merge_answer import merge_vote, without_vote
from serving.decoder.question import DecoderResult
from serving.errors import UnanswerableError
from serving.replica import encoder_answer
from serving.settings import OnFailure
from serving.types import Answer
from tests.serving.escalation_fixtures import BUNDLE, LABELS, RELIABLE

SHARED = (
    "label",
    "labels",
    "probs",
    "confidence",
    "status",
    "source",
    "escalation",
    "rationale",
    "reason",
    "truncated",
)
"""What a `Prediction` and an `Answer` both say."""
SURE, UNSURE = (0.0, 4.0, 0.0), (0.1, 0.4, 0.0)
TIE = 1e-9
"""Plain floats and arrays round differently, so what is closer than this may be decided either way."""
NO_LABEL = {
    "abstained": Vote(id="0", status="abstained", teacher="judge", reason="declined"),
    "unreadable": Vote(
        id="0", status="unreadable", teacher="judge", rationale="It is fine.", reason="unreadable_answer"
    ),
    "failed": Vote(id="0", status="failed", teacher="judge", reason="unreachable"),
}
NOT_ASKED = {
    "refused by the breaker": DecoderResult(outcome="refused_by_breaker", reason="paused"),
    "refused by the spend cap": DecoderResult(outcome="refused_by_spend", reason="spend_cap_reached"),
    "timed out": DecoderResult(outcome="failed", reason="timed_out"),
}


class FixedEncoder:
    """An encoder whose logits are known."""

    def __init__(self, logits: Sequence[Sequence[float]]) -> None:
        self._logits = np.array(logits, dtype=np.float32)

    has_evidence = False

    def encode(self, texts: Sequence[str], *, offsets: bool) -> list[Encoded]:
        assert not offsets
        return [Encoded(windows=([1, 2],), truncated=len(text) % 2 == 0) for text in texts]

    def run_with_evidence(self, encoded: Sequence[Encoded], *, threads_alike: bool) -> TextOutputs:
        assert not threads_alike
        return TextOutputs(self._logits[: len(encoded)], [])


class FixedDecoder:
    """A decoder that gives one vote to every text."""

    def __init__(self, vote: Vote) -> None:
        self._vote = vote

    def decide(self, texts: Sequence[str]) -> list[Vote]:
        return [self._vote] * len(texts)


def in_the_library(
    bundle: Bundle, logits: Sequence[float], vote: Vote | None, threshold: float | None = None
) -> Prediction:
    decoder = None if vote is None else FixedDecoder(vote)
    classifier = Classifier(bundle, FixedEncoder([logits]), decoder)  # type: ignore[arg-type]
    return classifier.classify(["soup"], threshold=threshold)[0]


def from_the_encoder(bundle: Bundle, logits: Sequence[float], threshold: float | None = None) -> Answer:
    """The service's answer before a decoder is asked, from logits as the engine sends them."""
    windows = np.array([logits], dtype=np.float32).tolist()
    loaded = LoadedBundle(folder=Path(), bundle=bundle, bundle_id="0", text_encoder=None, pad_id=0)  # type: ignore[arg-type] # unused
    encoded = Encoded(windows=([1, 2],), truncated=True)
    return encoder_answer(loaded, encoded, windows, threshold, precision=bundle.precision)


def result_of(vote: Vote) -> DecoderResult:
    if vote.label is not None:
        return DecoderResult(outcome="answered", vote=vote)
    return DecoderResult(outcome="failed" if vote.status == "failed" else "undecided", reason=vote.reason)  # type: ignore[arg-type] # as NO_LABEL has it


def in_the_service(
    bundle: Bundle,
    logits: Sequence[float],
    result: DecoderResult | None,
    *,
    threshold: float | None = None,
    on_failure: OnFailure = "local_label_flagged",
    always: bool = False,
) -> Answer:
    answer = from_the_encoder(bundle, logits, threshold)
    if result is None or (answer.status == "accepted" and not always):
        return answer
    if result.outcome == "answered":
        return merge_vote(bundle, answer, result, combine=True)
    return without_vote(answer, result, on_failure)


def in_the_evaluation(bundle: Bundle, logits: Sequence[float], vote: Vote) -> Judged:
    rows = np.array([logits], dtype=np.float32)
    evaluation = evaluate(
        [Example(id=vote.id, text="soup", label=bundle.labels[0], part="test")],
        Answers(logits=rows, probs=apply(bundle.calibration, rows)),
        bundle.labels,
        EvaluateConfig(bootstrap=2),
        threshold=bundle.threshold.value,
        leaked_ids=frozenset(),
        ask=lambda examples: [vote] * len(examples),
        ask_everything=False,
        seed=0,
        reliability=bundle.decoder,
    )
    return evaluation.judged[0]


def shared(answer: Prediction | Answer) -> dict[str, object]:
    return {name: getattr(answer, name) for name in SHARED}


def vote_for(label: str, *, teacher: str = "judge", confidence: float | None = 0.8) -> Vote:
    return Vote(id="0", status="ok", label=label, teacher=teacher, confidence=confidence, rationale="It says so.")


def test_the_records_of_library_service_and_client_have_one_vocabulary() -> None:
    library, service, client = (
        {field.name: field.type for field in msgspec.structs.fields(record)}
        for record in (Prediction, Answer, hybrid.client.Answer)
    )
    assert set(SHARED) - {"status"} <= library.keys()
    for name in ("source", "escalation", "probs", "confidence", "rationale", "truncated"):
        assert library[name] == service[name] == client[name], name
    assert service["status"] == client["status"] == AnswerStatus


@pytest.mark.parametrize("vote", [None, vote_for("bad")])
@pytest.mark.parametrize("bundle", [BUNDLE, msgspec.structs.replace(BUNDLE, decoder=None)])
def test_a_sure_text_is_accepted_everywhere(bundle: Bundle, vote: Vote | None) -> None:
    prediction = in_the_library(bundle, SURE, vote)
    assert (prediction.label, prediction.status, prediction.source) == ("good", "accepted", "encoder")
    answer = in_the_service(bundle, SURE, None if vote is None else result_of(vote))
    assert shared(prediction) == shared(answer)
    assert in_the_evaluation(bundle, SURE, vote or vote_for("bad")).label == "good"


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize(("reliability", "source"), [(None, "decoder"), (RELIABLE, "both")])
def test_an_escalated_text_is_answered_alike_everywhere(
    label: str, reliability: Reliability | None, source: str
) -> None:
    bundle, vote = msgspec.structs.replace(BUNDLE, decoder=reliability), vote_for(label)
    prediction = in_the_library(bundle, UNSURE, vote)
    assert (prediction.status, prediction.source, prediction.escalation) == ("escalated", source, "answered")
    assert prediction.confidence == prediction.probs[prediction.label]
    assert shared(prediction) == shared(in_the_service(bundle, UNSURE, result_of(vote)))
    assert in_the_evaluation(bundle, UNSURE, vote).together == prediction.label


def test_the_confidence_is_of_the_label_that_is_answered() -> None:
    logits = tuple(np.log((0.45, 0.55)).tolist())
    bundle = msgspec.structs.replace(BUNDLE, labels=("a", "b"), decoder=None)
    for answer in (
        in_the_library(bundle, logits, vote_for("a")),
        in_the_service(bundle, logits, result_of(vote_for("a"))),
    ):
        assert (answer.label, answer.confidence) == ("a", pytest.approx(0.45))


@pytest.mark.parametrize("status", NO_LABEL)
def test_a_vote_without_a_label_leaves_the_encoders_answer_and_a_reason(status: str) -> None:
    vote = NO_LABEL[status]
    prediction = in_the_library(BUNDLE, UNSURE, vote)
    assert (prediction.label, prediction.status, prediction.source) == ("good", "escalated", "encoder")
    assert prediction.escalation == ("failed" if status == "failed" else "undecided")
    assert (prediction.reason, prediction.rationale) == (vote.reason, "")
    assert shared(prediction) == shared(in_the_service(BUNDLE, UNSURE, result_of(vote)))
    assert in_the_evaluation(BUNDLE, UNSURE, vote).together is None


@pytest.mark.parametrize("name", NOT_ASKED)
def test_a_decoder_that_could_not_be_asked_is_a_failed_vote(name: str) -> None:
    result = NOT_ASKED[name]
    vote = msgspec.structs.replace(NO_LABEL["failed"], reason=result.reason)
    assert shared(in_the_library(BUNDLE, UNSURE, vote)) == shared(in_the_service(BUNDLE, UNSURE, result))


@pytest.mark.parametrize("result", [*NOT_ASKED.values(), *map(result_of, NO_LABEL.values())])
def test_the_policies_of_the_service_change_nothing_but_label_and_status(result: DecoderResult) -> None:
    flagged = in_the_service(BUNDLE, UNSURE, result)
    abstained = in_the_service(BUNDLE, UNSURE, result, on_failure="abstain")
    assert abstained == msgspec.structs.replace(flagged, label=None, labels=(), status="abstained")
    with pytest.raises(UnanswerableError, match="the decoder gave no answer"):
        in_the_service(BUNDLE, UNSURE, result, on_failure="error")
    for policy in ("local_label_flagged", "abstain", "error"):
        by_wish = in_the_service(BUNDLE, SURE, result, on_failure=policy, always=True)  # type: ignore[arg-type]
        assert (by_wish.label, by_wish.status) == ("good", "accepted")


def test_what_escalates_by_the_callers_wish_is_answered_as_below_the_threshold() -> None:
    always = in_the_service(BUNDLE, SURE, result_of(vote_for("bad")), always=True)
    assert shared(always) == shared(in_the_library(BUNDLE, SURE, vote_for("bad"), threshold=NOTHING_KEPT))
    never = in_the_service(BUNDLE, UNSURE, None)
    assert shared(never) == shared(in_the_library(BUNDLE, UNSURE, None))


def test_an_answer_says_where_its_threshold_is_from() -> None:
    everything = msgspec.structs.replace(
        BUNDLE, threshold=msgspec.structs.replace(BUNDLE.threshold, value=NOTHING_KEPT, met=False)
    )
    assert in_the_service(BUNDLE, SURE, None).threshold_basis == "bundle"
    by_itself = in_the_service(everything, SURE, None)
    assert (by_itself.threshold_basis, by_itself.threshold, by_itself.status) == ("nothing_kept", 2.0, "escalated")


def test_several_labels_a_text_are_decided_alike() -> None:
    calibration = Calibration(method="vector", activation="sigmoid", scale=(1.0, 2.0, 0.5), bias=(0.0, 0.1, -0.1))
    bundle = msgspec.structs.replace(BUNDLE, task="multi_label", calibration=calibration, decoder=None)
    for logits, label in (((2.0, 3.0, -4.0), "bad|good"), ((-2.0, -3.0, -4.0), "")):
        prediction = in_the_library(bundle, logits, None)
        assert prediction.label == label
        assert shared(prediction) == shared(in_the_service(bundle, logits, None))
        judged = evaluate_sets(
            [Example(id="0", text="soup", label="bad", part="test")] * 2,
            np.array([logits, logits], dtype=np.float32),
            calibration,
            LABELS,
            EvaluateConfig(bootstrap=2),
            threshold=bundle.threshold.value,
            leaked_ids=frozenset(),
            refitted=NullEce(mean=0.0, p95=0.0),
            seed=0,
        ).judged[0]
        assert (judged.label, judged.confidence) == (label, pytest.approx(prediction.confidence, abs=1e-6))


def test_a_label_that_the_bundle_does_not_have_is_no_answer() -> None:
    prediction = in_the_library(BUNDLE, UNSURE, vote_for("excellent"))
    assert (prediction.label, prediction.escalation, prediction.rationale) == ("good", "undecided", "")
    assert prediction.reason == "'excellent' is not a label of this bundle"


def test_a_batch_decides_as_single_texts_do() -> None:
    rows = np.random.default_rng(0).normal(scale=2, size=(40, 3)).astype(np.float32).tolist()
    vote = vote_for("bad")
    together = Classifier(BUNDLE, FixedEncoder(rows), FixedDecoder(vote)).classify(["soup"] * 40)  # type: ignore[arg-type]
    for row, prediction in zip(rows, together, strict=True):
        alone = in_the_library(BUNDLE, row, vote)
        assert (prediction.label, prediction.status, prediction.source) == (alone.label, alone.status, alone.source)
        assert list(prediction.probs.values()) == pytest.approx(list(alone.probs.values()), abs=1e-12)


@st.composite
def bundles(draw: st.DrawFn) -> Bundle:
    n_labels = draw(st.sampled_from([2, 3, 5, FEW_LABELS, FEW_LABELS + 1]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = {"scale": tuple(rng.uniform(0.1, 3, n_labels)), "bias": tuple(rng.normal(size=n_labels))}
    knots = tuple(Knots(x=(0.1, 0.5, 0.9), y=tuple(sorted(rng.uniform(size=3)))) for _ in range(n_labels))
    calibration = draw(
        st.sampled_from(
            [
                Calibration(),
                Calibration(method="temperature", temperature=rng.uniform(0.1, 10)),
                Calibration(method="vector", **scale),
                Calibration(method="top_label", knots=knots[:1], **scale),
                Calibration(method="isotonic", knots=knots, floor=1e-3),
            ]
        )
    )
    reliability = Reliability(
        model="judge",
        likelihood=tuple(map(tuple, rng.dirichlet(np.ones(n_labels), n_labels).clip(1e-6).tolist())),
        plain=Weights(encoder=1.2, decoder=0.7),
        stated=draw(st.sampled_from([None, Weights(encoder=1.0, decoder=0.8, rise=2.0)])),
        typical=0.7,
        accuracy=0.8,
        n_rows=100,
    )
    return msgspec.structs.replace(
        BUNDLE,
        labels=tuple(f"label {i}" for i in range(n_labels)),
        calibration=calibration,
        decoder=draw(st.sampled_from([None, reliability])),
        threshold=msgspec.structs.replace(BUNDLE.threshold, value=draw(st.sampled_from([0.0, 0.5, 0.9, 2.0]))),
    )


@settings(deadline=None, max_examples=200)
@given(bundle=bundles(), data=st.data())
def test_library_service_and_evaluation_agree_on_anything(bundle: Bundle, data: st.DataObject) -> None:
    finite = st.floats(-30, 30, width=32)
    logits = data.draw(st.lists(finite, min_size=len(bundle.labels), max_size=len(bundle.labels)))
    vote = data.draw(
        st.sampled_from(list(NO_LABEL.values()))
        | st.builds(
            vote_for,
            st.sampled_from(bundle.labels),
            teacher=st.sampled_from(["judge", "another"]),
            confidence=st.none() | st.floats(0, 1),
        )
    )
    prediction = in_the_library(bundle, logits, vote)
    assert shared(prediction) == shared(in_the_service(bundle, logits, result_of(vote)))
    encoder = from_the_encoder(bundle, logits)
    first, second = sorted(encoder.probs.values(), reverse=True)[:2]
    if min(first - second, abs(first - bundle.threshold.value)) < TIE:
        return
    judged = in_the_evaluation(bundle, logits, vote)
    escalated = prediction.status == "escalated"
    assert (prediction.escalation == "answered") == (judged.together is not None and escalated)
    assert prediction.label == (judged.together if escalated and judged.together is not None else judged.label)
    if vote.label is not None and not escalated:
        assert judged.decoder is None
