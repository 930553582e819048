"""The service gives the evidence words of an answer where they are asked for, and nothing changes where they are not."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import hybrid
from hybrid.client import Client
from hybrid.client.errors import ClientError
from hybrid.config import ExportConfig, TrainConfig
from hybrid.data.training_rows import training_rows
from hybrid.encoders.checkpoint import vocabulary_of
from hybrid.encoders.exporting import export
from hybrid.encoders.training import train
from hybrid.runtime.bundle_writer import write_bundle
from hybrid.runtime.calibration import Calibration, Threshold
from hybrid.runtime.text_encoder import TextLimits
from hybrid.types import Example, Vote
from tests.corpus import LABELS, texts_and_gold
from tests.serving.serving_process import started

pytestmark = pytest.mark.slow
READING = TextLimits(max_length=16, windows="mean", overlap=4)
TEXTS, GOLD = texts_and_gold(160, seed=3)
LONG = " ".join(TEXTS[:4])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, bert: Path) -> Path:
    """A bundle with an evidence head that reads in windows."""
    folder = tmp_path_factory.mktemp("evidence")
    rows = [Example(id=str(i), text=text, label=label) for i, (text, label) in enumerate(zip(TEXTS, GOLD, strict=True))]
    votes = [
        Vote(id=row.id, status="ok", label=row.label, rationale=f'"{row.text.split()[5]}" decides.', teacher="t")
        for row in rows
    ]
    config = TrainConfig(labels="given", epochs=4, batch_size=8, learning_rate=5e-3, precision="fp32", evidence=1.0)
    learned = training_rows(rows, [], [], LABELS, config, votes=votes)
    trained = train(learned, LABELS, config, encoder=bert, reading=READING, workdir=folder / "train", seed=0)
    export(trained.checkpoint, rows, LABELS, ExportConfig(), folder=folder / "export", reading=READING)
    write_bundle(
        folder / "bundle",
        exported=folder / "export",
        name="dishes",
        recipe_hash="0" * 64,
        encoder="tiny",
        labels=LABELS,
        reading=READING,
        calibration=Calibration(method="none"),
        threshold=Threshold(value=0.5, target=0.9, delta=0.1, n_rows=9, kept=1.0, met=True),
        policy="",
        vocabulary=vocabulary_of(trained.checkpoint),
        golden_texts=TEXTS[:3],
    )
    return folder / "bundle"


@pytest.fixture(scope="module")
def url(bundle: Path) -> Iterator[str]:
    with started(bundle) as process:
        yield process.url


def test_the_service_finds_the_words_that_the_library_finds_in_windows_and_in_batches(bundle: Path, url: str) -> None:
    texts = [*TEXTS[:30], LONG]
    with Client(url) as client:
        answers = client.classify(texts, evidence=True)
    for answer, ours in zip(answers, hybrid.load(bundle).classify(texts, evidence=True), strict=True):
        found, expected = answer.evidence, ours.evidence
        assert found is not None
        assert isinstance(expected, tuple)
        assert [(word.text, word.start, word.end) for word in found] == [(w.text, w.start, w.end) for w in expected]
        assert [word.score for word in found] == pytest.approx([word.score for word in expected], abs=1e-4)
    assert any(answer.evidence for answer in answers)


def test_who_does_not_ask_gets_the_answer_as_before(url: str) -> None:
    answer = httpx.post(f"{url}/v1/classify", json={"inputs": TEXTS[0]}).json()["answers"][0]
    assert "evidence" not in answer
    asked = httpx.post(f"{url}/v1/classify", json={"inputs": TEXTS[0], "evidence": True}).json()["answers"][0]
    assert [asked[name] for name in ("label", "tokens")] == [answer[name] for name in ("label", "tokens")]
    assert asked["probs"] == pytest.approx(answer["probs"])
    assert set(asked["evidence"][0]) == {"text", "start", "end", "score"}


def test_a_bundle_without_the_head_refuses_to_be_asked(plain_server: str) -> None:
    with Client(plain_server) as client, pytest.raises(ClientError, match="has no evidence head") as refused:
        client.classify(TEXTS[:1], evidence=True)
    assert refused.value.status == 422
