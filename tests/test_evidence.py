"""The evidence head: it learns what a teacher's reasons quote, ships in the graph, and finds its words at no further pass."""

import csv
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pandas
import pytest
import torch
from msgspec import UNSET

import hybrid
from hybrid.__main__ import main
from hybrid.config import ExportConfig, TrainConfig
from hybrid.data.quotes import quoted_spans
from hybrid.data.training_rows import TrainingRow, training_rows
from hybrid.encoders.batches import NO_TOKEN, Collator, Windows, read_windows
from hybrid.encoders.checkpoint import load_classifier, load_tokenizer
from hybrid.encoders.evidence import evidence_loss, head_of, token_targets
from hybrid.encoders.exporting import checkpoint_evidence, checkpoint_words, export
from hybrid.encoders.served_precisions import read_source, write_graph_at
from hybrid.encoders.training import train
from hybrid.errors import BundleError, ConfigError, DataError
from hybrid.evaluation.quoted_words import word_scores
from hybrid.files.table import read_rows, write_json
from hybrid.precisions import PRECISIONS
from hybrid.runtime.bundle import DEMO_BUNDLE, read_bundle, sealed
from hybrid.runtime.bundle_writer import write_bundle
from hybrid.runtime.calibration import Calibration, Threshold, sigmoid
from hybrid.runtime.encoder import Encoder
from hybrid.runtime.evidence import scored_words
from hybrid.runtime.explain import words_of
from hybrid.runtime.text_encoder import TextLimits
from hybrid.types import FP32, Decision, Example, Vote
from tests.conftest import ROWS as PROJECT_ROWS
from tests.conftest import write_project
from tests.corpus import LABELS, WORDS, texts_and_gold

TEXTS, GOLD = texts_and_gold(160)
EYE = np.eye(3)
READING = TextLimits(max_length=32)
CONFIG = TrainConfig(epochs=8, learning_rate=5e-3, batch_size=8, patience=8, precision="fp32", evidence=1.0)
MARKER = "xylophone"
THRESHOLD = Threshold(value=0.5, target=0.9, delta=0.1, n_rows=9, kept=1.0, met=True)


def reason_of(text: str, label: str) -> str:
    """What the teacher of these tests says: it quotes the words of the label."""
    words = [f'"{word}"' for word in WORDS[label] if f" {word}" in text]
    return f"{' and '.join(words)} decide."


QUOTES = [quoted_spans(text, reason_of(text, label)).spans for text, label in zip(TEXTS, GOLD, strict=True)]
ROWS = [
    TrainingRow(text=text, label=LABELS.index(gold), target=tuple(EYE[LABELS.index(gold)]), weight=1.0, quotes=(spans,))
    for text, gold, spans in zip(TEXTS, GOLD, QUOTES, strict=True)
]


def example(row_id: str, text: str, part: Any = "train") -> Example:
    return Example(id=row_id, text=text, label="good", part=part)


def decision(row_id: str, label: str = "good", weight: float = 1.0) -> Decision:
    return Decision(id=row_id, action="keep", given=label, label=label, weight=weight, probs=(), reason="")


def vote(row_id: str, rationale: str, label: str = "good") -> Vote:
    return Vote(id=row_id, status="ok", label=label, rationale=rationale, teacher="recorded")


def test_each_reason_for_the_label_that_trains_gives_its_quotes_and_no_other_reason_does() -> None:
    rows = [example("a", "fresh and warm"), example("b", "cold soup"), example("c", "dry bread")]
    votes = [
        vote("a", '"fresh" pleases.'),
        vote("a", '"fresh and warm" pleases.'),
        vote("a", '"warm" is faint.', label="bad"),
        vote("b", "No quote here."),
        vote("c", '"dry bread" is dull.'),
    ]
    decisions = [decision("a"), decision("b"), decision("c", weight=0.0)]
    trained = training_rows(rows, decisions, [], LABELS, TrainConfig(), votes=votes)
    assert [row.quotes for row in trained] == [(((0, 5),), ((0, 14),)), ()]


def test_what_the_teacher_quotes_of_calibration_and_test_rows_never_trains() -> None:
    train_rows = [example("a", f"fresh {MARKER}")]
    held_out = [example("b", f"warm {MARKER}", "calibration"), example("c", f"soft {MARKER}", "test")]
    votes = [vote("a", '"fresh" pleases.'), *(vote(row.id, f'"{MARKER}" pleases.') for row in held_out)]
    decisions = [decision(row.id) for row in (*train_rows, *held_out)]
    trained = training_rows(train_rows, decisions, [], LABELS, TrainConfig(), votes=votes)
    quoted = [row.text[start:end] for row in trained for spans in row.quotes for start, end in spans]
    assert quoted == ["fresh"]


def test_a_token_is_evidence_to_the_degree_that_reasons_quote_it() -> None:
    windows = Windows(
        columns={"input_ids": [[1, 5, 6, 7, 2]] * 2},
        counts=(2,),
        offsets=[[(0, 0), (0, 5), (5, 6), (6, 10), (0, 0)]] * 2,
    )
    targets, weights = token_targets(windows, [(((0, 5),), ((0, 10),))])
    assert targets == [[NO_TOKEN, 1.0, 0.5, 0.5, NO_TOKEN]] * 2
    assert weights == [0.5, 0.5]  # the windows of a text add up to one


def test_a_row_without_quotes_and_a_token_of_padding_teach_the_head_nothing() -> None:
    logits = torch.zeros(2, 3, requires_grad=True)
    targets = torch.tensor([[NO_TOKEN, 1.0, NO_TOKEN], [NO_TOKEN, 0.0, 0.0]])
    loss = evidence_loss(logits, targets, torch.tensor([1.0, 0.0]))
    loss.backward()
    assert loss.item() == pytest.approx(np.log(2) / 2)
    assert logits.grad is not None
    assert logits.grad.ne(0).tolist() == [[False, True, False], [False, False, False]]


def test_the_recipe_asks_for_a_head_that_no_reason_can_teach(bert: Path, tmp_path: Path) -> None:
    rows = [msgspec.structs.replace(row, quotes=()) for row in ROWS]
    with pytest.raises(DataError, match=r"train\.evidence = 1: no reason of the teacher quotes"):
        train(rows, LABELS, CONFIG, encoder=bert, reading=READING, workdir=tmp_path, seed=0)


def test_a_negative_weight_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="evidence"):
        msgspec.convert({"evidence": -1.0}, TrainConfig)


def test_without_the_head_nothing_of_a_batch_changes(bert: Path) -> None:
    tokenizer = load_tokenizer(bert)
    windows = read_windows(tokenizer, TEXTS[:2], READING)
    rows = [
        {"input_ids": ids, "attention_mask": mask, "targets": [1.0], "weights": 1.0}
        for ids, mask in zip(windows.columns["input_ids"], windows.columns["attention_mask"], strict=True)
    ]
    assert set(Collator(tokenizer)(rows)) == {"input_ids", "attention_mask", "targets", "weights"}


@pytest.mark.slow
def test_a_killed_training_goes_on_with_its_head_and_in_bf16(bert: Path, tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    def kill(step: int, _: int) -> None:
        if step == 8:
            raise KilledError

    config = msgspec.structs.replace(CONFIG, epochs=2, precision="bf16", checkpoint_steps=3)
    learn = partial(train, ROWS[:80], LABELS, config, encoder=bert, reading=READING, seed=0)
    whole = learn(workdir=tmp_path / "whole")
    with pytest.raises(KilledError):
        learn(workdir=tmp_path / "cut", on_step=kill)
    resumed = learn(workdir=tmp_path / "cut")
    assert resumed.report["resumed_from_step"] == 6
    heads = [
        torch.cat([p.flatten() for p in head_of(load_classifier(trained.checkpoint, LABELS)).parameters()])
        for trained in (whole, resumed)
    ]
    assert (heads[0] - heads[1]).abs().max() < 1e-4
    figures = resumed.report["evidence"]
    assert isinstance(figures, dict)
    assert figures["rows_with_quotes"] == 72
    assert figures["texts"] == 8


def test_the_head_trains_where_activations_are_computed_again(bert: Path, tmp_path: Path) -> None:
    config = msgspec.structs.replace(CONFIG, epochs=1, gradient_checkpointing=True)
    trained = train(ROWS[:40], LABELS, config, encoder=bert, reading=READING, workdir=tmp_path, seed=0)
    assert head_of(load_classifier(trained.checkpoint, LABELS)) is not None


@pytest.fixture(scope="module", params=["bert", "deberta"])
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of the family, trained with the head."""
    workdir = tmp_path_factory.mktemp("evidence")
    encoder = request.getfixturevalue(request.param)
    return train(ROWS, LABELS, CONFIG, encoder=encoder, reading=READING, workdir=workdir, seed=0).checkpoint


@pytest.mark.slow
def test_the_head_learns_which_words_are_quoted(checkpoint: Path) -> None:
    model, tokenizer = load_classifier(checkpoint, LABELS).eval(), load_tokenizer(checkpoint)
    scores = word_scores(checkpoint_words(model, tokenizer, TEXTS, READING), QUOTES)
    assert scores is not None
    assert scores.average_precision > 0.95 > 0.3 > scores.quoted_share


@pytest.mark.slow
@pytest.mark.parametrize(
    ("checkpoint", "backend"), [("bert", "lean"), ("deberta", "lean"), ("bert", "torch")], indirect=["checkpoint"]
)
def test_the_graph_gives_the_checkpoints_token_logits_at_every_length(
    backend: Any, checkpoint: Path, tmp_path: Path
) -> None:
    rows = [example(str(i), text) for i, text in enumerate([*TEXTS[:40], "short", "long " * 60])]
    export(checkpoint, rows, LABELS, ExportConfig(backend=backend), folder=tmp_path, reading=READING)
    model, tokenizer = load_classifier(checkpoint, LABELS).eval(), load_tokenizer(checkpoint)
    texts = [row.text for row in rows]
    encoder = Encoder(tmp_path, n_labels=3, reading=READING)
    ours = encoder.run_with_evidence(encoder.encode(texts)).token_logits
    theirs = checkpoint_evidence(model, tokenizer, texts, READING)
    assert [len(window) for text in ours for window in text] == [len(window) for text in theirs for window in text]
    furthest = max(
        np.abs(a - b).max() for one, other in zip(ours, theirs, strict=True) for a, b in zip(one, other, strict=True)
    )
    assert furthest < 1e-5
    onnx.checker.check_model(onnx.load(tmp_path / "model.onnx"))


BELOW_FP32 = [name for name in PRECISIONS if name != FP32]
N_SERVED = 60


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fp32 graph of the checkpoint."""
    folder = tmp_path_factory.mktemp("exported")
    rows = [example(str(i), text) for i, text in enumerate(TEXTS[:40])]
    export(checkpoint, rows, LABELS, ExportConfig(), folder=folder, reading=READING)
    return folder


def token_probs(folder: Path, texts: list[str]) -> list[np.ndarray]:
    encoder = Encoder(folder, n_labels=3, reading=READING, threads=1)
    outputs = encoder.run_with_evidence(encoder.encode(texts))
    return [sigmoid(np.concatenate(windows)) for windows in outputs.token_logits]


@pytest.mark.slow
@pytest.mark.parametrize("precision", BELOW_FP32)
def test_every_precision_keeps_the_evidence_near_fp32_and_no_neighbour_moves_it(
    precision: str, exported: Path, tmp_path: Path
) -> None:
    shutil.copy(exported / "tokenizer.json", tmp_path)
    fp32 = Encoder(exported, n_labels=3, reading=READING)
    source = read_source(exported / "model.onnx", fp32.feeds(TEXTS[:40]))
    write_graph_at(source, precision, tmp_path / "model.onnx", sensitive=[linear.name for linear in source.linears])
    assert all(linear.n_outputs > 1 for linear in source.linears)  # the head itself stays in fp32
    texts = TEXTS[:N_SERVED]
    exact, together = token_probs(exported, texts), token_probs(tmp_path, texts)
    assert np.abs(np.concatenate(exact) - np.concatenate(together)).mean() < 0.02
    alone = [token_probs(tmp_path, [text])[0] for text in texts]
    moved = max(np.abs(one - other).max() for one, other in zip(alone, together, strict=True))
    assert moved < (1e-5 if precision in ("int8_static", "int8_weights") else 1e-3)


@pytest.fixture(scope="module")
def bundle(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with the head."""
    folder = tmp_path_factory.mktemp("bundle")
    write_bundle(
        folder,
        exported=exported,
        name="dishes",
        recipe_hash="0" * 64,
        encoder="tiny",
        labels=LABELS,
        reading=READING,
        calibration=Calibration(method="none"),
        threshold=THRESHOLD,
        policy="",
        vocabulary=10_000,
        golden_texts=TEXTS[:3],
    )
    return folder


@pytest.mark.slow
def test_an_answer_has_its_evidence_words_with_their_places(bundle: Path) -> None:
    classifier = hybrid.load(bundle)
    assert classifier.has_evidence
    texts = TEXTS[:20]
    answers = classifier.classify(texts, evidence=True)
    plain = classifier.classify(texts)
    found: set[tuple[str, int, int]] = set()
    for text, answer, without in zip(texts, answers, plain, strict=True):
        assert without.evidence is UNSET
        assert msgspec.structs.replace(answer, evidence=UNSET) == without
        assert isinstance(answer.evidence, tuple)
        assert all(text[word.start : word.end] == word.text and 0.5 <= word.score <= 1 for word in answer.evidence)
        found |= {(text, word.start, word.end) for word in answer.evidence}
    quoted = {(text, *span) for text, spans in zip(texts, QUOTES, strict=False) for span in spans}
    assert len(found & quoted) > 0.75 * len(found | quoted)


@pytest.mark.slow
def test_a_frame_gets_a_column_of_evidence_words(bundle: Path) -> None:
    frame = pandas.DataFrame({"text": TEXTS[:4]}, index=[3, 1, 4, 5])
    classifier = hybrid.load(bundle)
    answers = classifier.classify(frame, text="text", evidence=True)
    assert list(answers.index) == [3, 1, 4, 5]
    assert all(isinstance(words, list) for words in answers["evidence"])
    assert "evidence" not in classifier.classify(frame, text="text").columns


@pytest.mark.slow
def test_the_words_of_a_cut_text_and_of_windows_are_where_they_stand(bundle: Path) -> None:
    text = f"{'again ' * 40}and {TEXTS[0]}"
    for reading, expected in (
        (TextLimits(max_length=32, windows="mean", overlap=8), True),
        (TextLimits(max_length=32, truncate="left"), True),
        (TextLimits(max_length=32, truncate="both"), True),
        (TextLimits(max_length=32), False),
    ):
        encoder = Encoder(bundle, n_labels=3, reading=reading)
        encoded = encoder.encode([text], offsets=True)
        words = scored_words(text, encoded[0], encoder.run_with_evidence(encoded).token_logits[0])
        assert all(text[word.start : word.end] == word.text for word in words)
        assert ("table" in [word.text for word in words]) == expected
        if reading.windows != "mean":
            assert len(words) < len(words_of(text))


def test_a_bundle_without_the_head_says_so_where_evidence_is_asked_for() -> None:
    classifier = hybrid.load("demo")
    assert not classifier.has_evidence
    with pytest.raises(ConfigError, match=r"has no evidence head.*train\.evidence=0\.5"):
        classifier.classify(["fine"], evidence=True)
    assert b'"evidence"' not in (DEMO_BUNDLE / "bundle.json").read_bytes()


@pytest.mark.slow
def test_a_manifest_that_denies_the_head_is_refused(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "bundle")
    manifest = read_bundle(tmp_path / "bundle")
    write_json(tmp_path / "bundle" / "bundle.json", sealed(msgspec.structs.replace(manifest, evidence=UNSET)))
    with pytest.raises(BundleError, match="differ on whether there is an evidence head"):
        hybrid.load(tmp_path / "bundle")


@pytest.mark.slow
def test_predict_shows_the_words(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", str(bundle), TEXTS[0]]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [word["text"] for word in answer["evidence"]]
    assert main(["predict", "demo", TEXTS[0]]) == 0
    assert "evidence" not in json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_a_recipe_trains_the_head_ships_it_and_tells_why(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_project(tmp_path, bert, '[verify]\nimports = ["votes.csv"]')
    texts, gold = texts_and_gold(PROJECT_ROWS)
    with (tmp_path / "votes.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "rationale"])
        writer.writerows((text, label, reason_of(text, label)) for text, label in zip(texts, gold, strict=True))
    settings = ("train.evidence=0.5", "train.epochs=3", "train.precision=fp32", "quantize.margin=0.2")
    words = [word for setting in settings for word in ("--set", setting)]
    assert main(["run", str(recipe), "--runs", str(tmp_path / "runs"), *words]) == 0
    run = tmp_path / "runs" / "dishes" / "default"
    trained = json.loads((run / "train" / "report.json").read_bytes())["evidence"]
    assert trained["average_precision"] > trained["quoted_share"] + 0.2
    assert json.loads((run / "bundle" / "bundle.json").read_bytes())["evidence"] is True
    card = (run / "bundle" / "README.md").read_text(encoding="utf-8")
    assert f"their average precision is {trained['average_precision']:.2f};" in card
    assert 0 < json.loads((run / "quantize" / "rungs.jsonl").read_text())["evidence_shift"] < 0.02
    row = next(row for row in read_rows(run / "split" / "rows.jsonl", Example) if row.part == "test")
    capsys.readouterr()
    assert main(["why", str(run), row.id]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "evidence words" in line)
    assert any(word in line for word in row.text.split())
    assert main(["info", str(run / "bundle")]) == 0
    assert "evidence     answers can have their evidence words" in capsys.readouterr().out


def test_a_recipe_without_the_head_is_recorded_as_before_there_was_one() -> None:
    for config in (TrainConfig(), TrainConfig(evidence=0), msgspec.convert({"evidence": 0.0}, TrainConfig)):
        assert config.evidence_weight == 0
        assert "evidence" not in msgspec.to_builtins(config)


@pytest.mark.slow
def test_another_engine_gives_the_same_evidence(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    from hybrid.runtime.engines import openvino_engine

    monkeypatch.setattr(openvino_engine, "has_bf16", lambda _: False)
    there = Encoder(exported, n_labels=3, reading=READING, engine="openvino")
    assert there.has_evidence
    outputs = there.run_with_evidence(there.encode(TEXTS[:20]))
    for ours, theirs in zip(token_probs(exported, TEXTS[:20]), outputs.token_logits, strict=True):
        assert sigmoid(np.concatenate(theirs)) == pytest.approx(ours, abs=1e-4)


@pytest.mark.slow
def test_rows_with_several_labels_train_the_head_too(bert: Path, tmp_path: Path) -> None:
    rows = [Example(id=str(i), text=text, label=label) for i, (text, label) in enumerate(zip(TEXTS, GOLD, strict=True))]
    votes = [vote(row.id, reason_of(row.text, row.label), label=row.label) for row in rows]
    config = msgspec.structs.replace(CONFIG, labels="given", epochs=2)
    learned = training_rows(rows, [], [], LABELS, config, task="multi_label", votes=votes)
    assert [row.quotes for row in learned] == [(spans,) for spans in QUOTES]
    trained = train(
        learned, LABELS, config, encoder=bert, reading=READING, workdir=tmp_path, seed=0, task="multi_label"
    )
    assert head_of(load_classifier(trained.checkpoint, LABELS)) is not None
