"""The runtime: the same answer whatever the company of a text, and no answer from a bundle that was changed."""

import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import hybrid
from hybrid.errors import BundleError, DataError
from hybrid.runtime.decision import with_vote
from hybrid.types import Prediction, Vote
from tests.serving.bundles import changed

TEXTS = ["The soup was awful and stale.", "Superb and fresh bread at the harbour!", "boiled rice", "x " * 90]


@pytest.fixture
def bundle(finished: Path, tmp_path: Path) -> Path:
    """A copy of a real bundle, free to be harmed."""
    return Path(shutil.copytree(finished / "bundle", tmp_path / "bundle"))


def test_a_prediction_has_label_probabilities_confidence_and_whether_to_escalate(finished: Path) -> None:
    classifier = hybrid.load(finished / "bundle")
    for prediction in classifier.classify(TEXTS):
        assert prediction.label == max(prediction.probs, key=prediction.probs.__getitem__)
        assert sum(prediction.probs.values()) == pytest.approx(1)
        assert prediction.confidence == prediction.probs[prediction.label]
        assert prediction.escalate == (prediction.confidence < classifier.bundle.threshold.value)
        assert prediction.source == "encoder"


def test_order_and_neighbours_do_not_move_the_logits(finished: Path) -> None:
    classifier = hybrid.load(finished / "bundle")
    alone = np.concatenate([classifier.logits([text]) for text in TEXTS])
    assert np.abs(classifier.logits(TEXTS) - alone).max() < 1e-5
    assert np.abs(classifier.logits(TEXTS[::-1])[::-1] - alone).max() < 1e-5


def test_a_cut_text_is_said_to_be_cut(finished: Path) -> None:
    assert [p.truncated for p in hybrid.load(finished / "bundle").classify(TEXTS)] == [False, False, False, True]


def test_no_texts_no_predictions(finished: Path) -> None:
    assert hybrid.load(finished / "bundle").classify([]) == []


@pytest.mark.parametrize("texts", [["ok", ""], ["ok", "  \n"], ["ok", None], "one string"])
def test_what_is_not_a_list_of_texts_is_refused(finished: Path, texts: object) -> None:
    with pytest.raises(DataError, match="classify: "):
        hybrid.load(finished / "bundle").classify(texts)  # type: ignore[arg-type]


def test_threads_may_share_a_classifier(finished: Path) -> None:
    classifier = hybrid.load(finished / "bundle")
    wanted = classifier.probs(TEXTS)
    found: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: found.append(classifier.probs(TEXTS))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(np.abs(probs - wanted).max() < 1e-6 for probs in found)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_file_changed_by_a_byte_is_refused(bundle: Path, name: str) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(BundleError, match=f"{name}: changed since the bundle was made .*copy the bundle again"):
        hybrid.load(bundle)


def test_a_missing_file_is_named(bundle: Path) -> None:
    (bundle / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"model\.onnx: missing from the bundle"):
        hybrid.load(bundle)


def test_a_cut_off_manifest_another_format_and_no_bundle_are_said(bundle: Path, tmp_path: Path) -> None:
    manifest = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps(manifest | {"format": 99}))
    with pytest.raises(BundleError, match="format 99; this version reads formats 2 and 3"):
        hybrid.load(bundle)
    old = {"format": 1, "name": "dishes", "max_length": 32}
    (bundle / "bundle.json").write_text(json.dumps(old))
    with pytest.raises(BundleError, match="format 1; this version reads formats 2 and 3: rerun the recipe"):
        hybrid.load(bundle)
    (bundle / "bundle.json").write_text(json.dumps(manifest)[:-20])
    with pytest.raises(BundleError, match="changed or cut off"):
        hybrid.load(bundle)
    with pytest.raises(BundleError, match="not a bundle"):
        hybrid.load(tmp_path)


def test_labels_that_do_not_fit_the_graph_are_refused(bundle: Path) -> None:
    with pytest.raises(BundleError, match="3 logits for 2 labels"):
        hybrid.load(changed(bundle, labels=["a", "b"]))


def test_a_tokenizer_of_another_model_is_refused(bundle: Path) -> None:
    known = hybrid.load(bundle).bundle.vocabulary
    with pytest.raises(BundleError, match=rf"the tokenizer knows {known} tokens and the encoder {known - 1}"):
        hybrid.load(changed(bundle, vocabulary=known - 1))


def test_golden_texts_span_the_lengths_and_have_the_probabilities_of_the_bundle(finished: Path) -> None:
    classifier = hybrid.load(finished / "bundle")
    golden = classifier.bundle.golden
    assert len(golden) == 5
    assert len({len(one.text) for one in golden}) > 2
    probs = classifier.probs([one.text for one in golden])
    assert np.abs(probs - [one.probs for one in golden]).max() < 1e-4


@pytest.mark.parametrize(("precision", "off", "refused"), [("fp32", 0.002, True), ("int8_row", 0.002, False)])
def test_a_machine_that_computes_something_else_is_refused(
    bundle: Path, precision: str, off: float, refused: bool
) -> None:
    golden = json.loads((bundle / "bundle.json").read_text())["golden"]
    golden[2]["probs"][0] += off
    changed(bundle, precision=precision, golden=golden)
    if not refused:
        hybrid.load(bundle)
        return
    with pytest.raises(
        BundleError, match=r"golden text .* has a probability that is 0\.00.* off, expected at most 0\.001"
    ):
        hybrid.load(bundle)


def test_an_int8_answer_that_saturates_is_refused(bundle: Path) -> None:
    golden = json.loads((bundle / "bundle.json").read_text())["golden"]
    golden[0]["probs"][0] += 0.03
    with pytest.raises(BundleError, match="computes the int8_static graph otherwise than where it was made"):
        hybrid.load(changed(bundle, precision="int8_static", golden=golden))


def test_explain_finds_the_words_that_carry_the_answer(finished: Path) -> None:
    classifier = hybrid.load(finished / "bundle")
    text = "The soup at the harbour was superb and fragrant, table 7."
    found = classifier.explain(text)
    assert found.label == classifier.classify([text])[0].label
    assert found.probability == pytest.approx(classifier.classify([text])[0].confidence, abs=1e-5)
    assert [text[word.start : word.end] for word in found.words] == [word.text for word in found.words]
    assert "".join(word.text for word in found.words) == text.replace(" ", "")
    by_fall = sorted(found.words, key=lambda word: -word.drop)
    assert {word.text for word in by_fall[:2]} & {"superb", "fragrant"}
    masked = classifier.probs([text.replace("superb", "[MASK]")])[0]
    fall = next(word.drop for word in found.words if word.text == "superb")
    place = classifier.bundle.labels.index(found.label)
    assert fall == pytest.approx(found.probability - masked[place], abs=1e-5)


def test_explain_takes_another_label_and_refuses_one_it_does_not_know(finished: Path) -> None:
    classifier = hybrid.load(finished / "bundle")
    assert classifier.explain("stale soup", label="plain").label == "plain"
    with pytest.raises(DataError, match=r"explain: label 'plane'; expected one of bad, good, plain"):
        classifier.explain("stale soup", label="plane")
    with pytest.raises(DataError, match="classify: text 0"):
        classifier.explain(" ")


@pytest.mark.slow
def test_predict_explains_on_request(finished: Path) -> None:
    command = [sys.executable, "-m", "hybrid", "predict", str(finished / "bundle"), "superb soup", "--explain"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert [word["text"] for word in said["explanation"]["words"]] == ["superb", "soup"]
    assert said["explanation"]["label"] == said["label"]


class Says:
    """A decoder that gives one fixed vote and remembers what it was asked."""

    def __init__(self, vote: Vote) -> None:
        self.asked: list[str] = []
        self._vote = vote

    def decide(self, texts: list[str]) -> list[Vote]:
        self.asked += texts
        return [self._vote] * len(texts)


def test_only_what_is_below_the_threshold_goes_to_the_decoder(finished: Path) -> None:
    vote = Vote(id="0", status="ok", label="plain", rationale="It says so.", teacher="t")
    decoder = Says(vote)
    plain = hybrid.load(finished / "bundle")
    sure = sorted(p.confidence for p in plain.classify(TEXTS))
    found = hybrid.load(finished / "bundle", decoder=decoder).classify(TEXTS, threshold=sure[2])
    assert len(decoder.asked) == 2
    for text, prediction in zip(TEXTS, found, strict=True):
        assert (prediction.source == "decoder") == (text in decoder.asked)
    answered = next(p for p in found if p.source == "decoder")
    assert (answered.label, answered.rationale, answered.escalation) == ("plain", "It says so.", "answered")


@pytest.mark.parametrize(
    ("status", "escalation"), [("failed", "failed"), ("unreadable", "undecided"), ("abstained", "undecided")]
)
def test_where_the_decoder_gives_no_label_the_encoders_answer_stands_and_says_so(status: str, escalation: str) -> None:
    before = Prediction(label="a", confidence=0.5, probs={"a": 0.5, "b": 0.5}, escalate=True)
    after = with_vote(before, Vote(id="0", status=status, teacher="t", reason="why"))  # type: ignore[arg-type]
    assert (after.label, after.source, after.escalation) == ("a", "encoder", escalation)
    assert (after.reason, after.rationale) == ("why", "")


def test_the_folder_of_a_run_is_refused_with_the_bundle_in_it(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "bundle.json").write_text("{}")
    with pytest.raises(BundleError, match="this is the folder of a run: name "):
        hybrid.load(tmp_path)
