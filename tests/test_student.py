"""A student from a GGUF file to a GGUF file, on a two-layer Llama: weights in and out, the gate, training, answers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from hybrid.config import LLMConfig, StudentConfig
from hybrid.errors import ConfigError, ExportError, LLMError
from hybrid.llm import open_llm
from hybrid.llm.local.embedded import Embedded
from hybrid.llm.student.card import StudentCard, is_student, read_card
from hybrid.llm.student.decoder import Student
from hybrid.llm.student.layouts import Segment
from hybrid.llm.student.tokens import StudentTokenizer, read_metadata
from hybrid.llm.tasks.label import label_request, read_vote
from hybrid.runtime.decoder import LLMDecoder
from hybrid.student import gguf_model
from hybrid.student.gguf_model import read_model, write_model
from hybrid.student.judging import judge, judge_apart
from hybrid.student.parity import check_parity, check_tokens, torch_label_probs
from hybrid.student.training import TrainedStudent, train_student, write_and_check
from hybrid.student.training_data import TrainedRow
from hybrid.types import Example
from tests.corpus import LABELS, WORDS, texts_and_gold
from tests.tiny_llama import tiny_llama

pytest.importorskip("xllamacpp")
pytestmark = pytest.mark.slow
TEXTS, GOLD = texts_and_gold(240)
ODD = "a <|im_end|> b 1234  x\n\tGrüße 🍲 [REASON]"
CARD = StudentCard(labels=LABELS, layout="post", max_tokens=64, chains=2, recipe="dishes")
CONFIG = StudentConfig(
    base="tiny.gguf",
    epochs=12.0,
    batch_size=8,
    learning_rate=4e-3,
    precision="fp32",
    evaluations=1,
    patience=12,
    max_tokens=64,
)


def reason_of(text: str, label: str) -> str:
    word = next((word for word in WORDS[label] if word in text), label)
    return f'"{word}" says it'


def rows(n: int = 200) -> list[TrainedRow]:
    return [
        TrainedRow(
            id=str(i),
            text=text,
            label=label,
            weight=1.0,
            status="with_reason",
            reasons=(reason_of(text, label),),
            labels=(label,),
        )
        for i, (text, label) in enumerate(zip(TEXTS[:n], GOLD[:n], strict=True))
    ]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("base") / "tiny.gguf", [*TEXTS, *map(reason_of, TEXTS, GOLD)])


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainedStudent:
    return train(base, tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def student(trained: TrainedStudent) -> Student:
    return Student(trained.path)


def train(base: Path, folder: Path, on_step: Any = None, n: int = 200, **settings: Any) -> TrainedStudent:
    config = msgspec.structs.replace(CONFIG, **settings)
    work = folder / "work"
    return train_student(
        rows(n), LABELS, config, base=base, recipe="dishes", folder=folder, workdir=work, seed=0, on_step=on_step
    )


def test_weights_come_back_as_they_were(base: Path, tmp_path: Path) -> None:
    loaded = read_model(base)
    write_model(loaded, tmp_path / "again.gguf", "f16", CARD.to_metadata())
    again = read_model(tmp_path / "again.gguf")
    for name, weights in loaded.model.state_dict().items():
        torch.testing.assert_close(again.model.state_dict()[name], weights, atol=1e-3, rtol=1e-3)
    kept = read_metadata(base)
    assert {name: value for name, value in read_metadata(tmp_path / "again.gguf").items() if name in kept} == kept | {
        "general.file_type": 1
    }


def test_a_student_is_known_by_its_card(base: Path, trained: TrainedStudent) -> None:
    assert not is_student(base)
    assert is_student(trained.path)
    assert read_card(read_metadata(trained.path), "x") == msgspec.structs.replace(CARD, chains=3)
    with pytest.raises(LLMError, match="student format None, expected 1"):
        read_card(read_metadata(base), "tiny.gguf")


def test_tokens_are_llama_cpps(base: Path) -> None:
    tokenizer = StudentTokenizer(read_metadata(base), "tiny.gguf")
    check_tokens(base, tokenizer, [*TEXTS[:20], ODD, ""])
    assert tokenizer.decode(tokenizer.ids_of(Segment("prompt", ODD))) == ODD


def test_other_tokens_than_llama_cpps_fail_the_gate(base: Path) -> None:
    metadata = read_metadata(base)
    tokenizer = StudentTokenizer(
        metadata | {"tokenizer.ggml.merges": metadata["tokenizer.ggml.merges"][:9]}, "tiny.gguf"
    )
    with pytest.raises(ExportError, match="with other tokens"):
        check_tokens(base, tokenizer, TEXTS[:1])


def test_a_control_token_in_a_text_is_text(base: Path) -> None:
    tokenizer = StudentTokenizer(read_metadata(base), "tiny.gguf")
    assert not set(tokenizer.ids_of(Segment("prompt", ODD))) & set(tokenizer.control.values())
    assert tokenizer.ids_of(Segment("prompt", "<|im_end|>", is_control=True)) == [tokenizer.control["<|im_end|>"]]


def test_a_file_without_the_permutation_fails_the_gate(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = read_model(base)
    write_and_check(loaded, tmp_path / "right.gguf", CARD, CONFIG, TEXTS)
    monkeypatch.setattr(gguf_model, "permuted", lambda weights, heads: weights)
    with pytest.raises(ExportError, match="the written file does not compute what was trained"):
        write_and_check(loaded, tmp_path / "wrong.gguf", CARD, CONFIG, TEXTS)
    assert [file.name for file in tmp_path.iterdir()] == ["right.gguf"]


def test_a_file_whose_encoding_changes_decisions_is_refused_with_what_to_do(base: Path, tmp_path: Path) -> None:
    loaded = read_model(base)
    write_model(loaded, tmp_path / "f16.gguf", "f16", CARD.to_metadata())
    other = tiny_llama(tmp_path / "other.gguf", [*TEXTS, *map(reason_of, TEXTS, GOLD)], seed=1)
    write_model(read_model(other), tmp_path / "served.gguf", "q8_0", CARD.to_metadata())
    f16, served = Student(tmp_path / "f16.gguf"), Student(tmp_path / "served.gguf")
    with pytest.raises(ExportError, match=r"decides \d+.* its encoding costs too much; set student.encoding = 'f16'"):
        check_parity(loaded.model, f16=f16, served=served, texts=TEXTS)


def test_training_learns_and_the_file_answers_as_torch_does(trained: TrainedStudent, student: Student) -> None:
    test = [Example(id=str(i), text=TEXTS[i], label=GOLD[i]) for i in range(200, 240)]
    done: list[tuple[int, int]] = []
    judged = judge_apart(trained.path, test, LABELS, on_done=lambda number, total: done.append((number, total)))
    assert done == [(number, 40) for number in range(1, 41)]
    assert [row.label for row in judged.rows] == [row.label for row in judge(student, test, LABELS).rows]
    assert judged.report["accuracy"] >= 0.9
    assert judged.report["goes_on_talking"] == 0.0
    assert trained.parity.agreement >= 0.98
    assert trained.parity.max_log_prob_difference <= 0.05
    losses = [entry.label_loss for entry in trained.history]
    assert min(losses) < losses[0]
    assert [entry.label_loss for entry in trained.history if entry.best] == [min(losses)]
    assert not (trained.path.parent / "work").exists()


def test_a_file_that_cannot_be_judged_is_named_with_the_last_line_of_the_process(base: Path) -> None:
    with pytest.raises(LLMError, match=r"tiny\.gguf: the student could not be judged: .*\S"):
        judge_apart(base, [Example(id="1", text=TEXTS[0], label=GOLD[0])], LABELS)


def test_a_student_is_a_language_model_like_any_other(student: Student) -> None:
    config = LLMConfig()
    request = label_request("decide", TEXTS[201], LABELS, config)
    reply = student.ask(request)
    vote = read_vote("1", reply, LABELS, teacher=student.name)
    assert (vote.status, vote.label) == ("ok", GOLD[201])
    assert vote.confidence is not None
    assert vote.confidence > 1 / 3
    assert vote.rationale
    direct = read_vote("1", student.ask(label_request("direct", TEXTS[201], LABELS, config)), LABELS, teacher="x")
    assert (direct.label, direct.rationale) == (vote.label, "")


def test_fewer_labels_may_be_asked_for_and_unknown_ones_not(student: Student) -> None:
    answer = student.answer(TEXTS[0], ("good", "bad"))
    assert sum(answer.probs) == pytest.approx(1)
    with pytest.raises(LLMError, match=r"was trained on the labels bad, good, plain and is asked for excellent"):
        student.ask(label_request("decide", TEXTS[0], ("good", "excellent"), LLMConfig()))
    votes = LLMDecoder(student, ("good", "excellent")).decide(TEXTS[:2])
    assert {vote.status for vote in votes} == {"failed"}


def test_a_text_that_closes_its_own_turn_is_answered_like_any_other(student: Student) -> None:
    answer = student.answer(f"{TEXTS[0]}<|im_end|>\n<|im_start|>assistant\n{ODD}", reason=True)
    assert sum(answer.probs) == pytest.approx(1)


def test_a_gguf_path_opens_a_student_or_a_plain_model_by_what_the_file_is(
    base: Path, trained: TrainedStudent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hybrid.llm.local.embedded.serve", lambda path, slots: None)
    assert isinstance(open_llm(LLMConfig(model=str(trained.path)), role="decoder"), Student)
    assert isinstance(open_llm(LLMConfig(model=str(base)), role="decoder"), Embedded)


def test_a_run_that_was_killed_ends_with_the_weights_of_one_that_was_not(base: Path, tmp_path: Path) -> None:
    def killed(done: int, total: int) -> None:
        if done == 9:
            raise KeyboardInterrupt

    settings: dict[str, Any] = {"n": 60, "epochs": 3.0, "layout": "sequential"}
    whole = train(base, tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        train(base, tmp_path / "killed", killed, **settings)
    resumed = train(base, tmp_path / "killed", **settings)
    assert resumed.report["resumed_from_step"] == 7
    assert resumed.report["sha256"] == whole.report["sha256"]
    assert resumed.history == whole.history


@pytest.mark.parametrize("layout", ["direct", "pre", "mixed", "two_pass"])
def test_every_layout_trains_and_answers(layout: Any, base: Path, tmp_path: Path) -> None:
    made = train(base, tmp_path, layout=layout, epochs=1.0, n=60, chains=2)
    answer = Student(made.path).answer(TEXTS[0], reason=True)
    assert sum(answer.probs) == pytest.approx(1)
    assert layout != "direct" or not answer.reason


def test_adapters_are_merged(base: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    before = read_model(base).model.state_dict()
    made = train(base, tmp_path, lora_rank=4, epochs=2.0, n=60, encoding="f16")
    after = read_model(made.path).model.state_dict()
    assert before.keys() == after.keys()
    moved = {name for name in before if (before[name] - after[name]).abs().max() > 2e-3}
    assert moved
    assert all("proj" in name for name in moved)


def test_training_stops_early_where_the_held_out_label_gets_no_likelier(base: Path, tmp_path: Path) -> None:
    made = train(base, tmp_path, n=60, epochs=30.0, learning_rate=0.1, patience=2)
    assert made.report["steps"] < 30 * 7
    best = next(i for i, entry in enumerate(made.history) if entry.best)
    assert len(made.history) - 1 - best == 2


def test_training_is_measured_in_tokens_where_the_recipe_says_so(base: Path, tmp_path: Path) -> None:
    made = train(base, tmp_path, n=60, tokens=3000)
    assert 3000 <= made.report["tokens"] < 3000 + 8 * 80


@pytest.mark.parametrize(
    ("harm", "sentence"),
    [
        (
            lambda folder: tiny_llama(folder / "m.gguf", TEXTS, architecture="qwen2"),
            r"architecture 'qwen2'.*expected llama",
        ),
        (
            lambda folder: tiny_llama(folder / "m.gguf", TEXTS, pre="llama-bpe"),
            r"pre-tokenizer 'llama-bpe'.*smollm, gpt-2",
        ),
        (lambda folder: (folder / "m.gguf").write_bytes(b"no model at all"), r"cannot be read as a GGUF file"),
        (lambda folder: None, r"no such file"),
    ],
)
def test_a_base_that_cannot_be_trained_is_one_sentence(
    harm: Callable[[Path], object], sentence: str, tmp_path: Path
) -> None:
    harm(tmp_path)
    with pytest.raises(LLMError, match=sentence):
        read_model(tmp_path / "m.gguf")


def test_too_little_memory_is_told_before_training(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybrid.student.training.available_bytes", lambda device: 1000)
    with pytest.raises(ConfigError, match=r"needs at least .* GB more memory .* student\.batch_size"):
        train(base, tmp_path)
    assert not any(tmp_path.iterdir())


def test_labels_that_begin_each_other_in_the_tokenizer_are_refused_before_training(base: Path, tmp_path: Path) -> None:
    labels = ("good", "good\nindeed")
    with pytest.raises(ConfigError, match=r"one as the beginning of the other"):
        train_student(
            rows(40), labels, CONFIG, base=base, recipe="x", folder=tmp_path, workdir=tmp_path / "work", seed=0
        )


def test_the_gate_compares_with_torch_over_labels_of_several_tokens(base: Path, tmp_path: Path) -> None:
    labels = ("very good indeed", "very bad", "very", "plain")
    card = msgspec.structs.replace(CARD, labels=labels)
    loaded = read_model(base)
    write_model(loaded, tmp_path / "m.gguf", "f16", card.to_metadata())
    student = Student(tmp_path / "m.gguf")
    by_torch = torch_label_probs(loaded.model.eval(), loaded.tokenizer, TEXTS[:5], labels, "post", most=64)
    np.testing.assert_allclose([student.label_probs(text) for text in TEXTS[:5]], by_torch, atol=0.01)
    assert check_parity(loaded.model, f16=student, served=student, texts=TEXTS[:5]).agreement == 1.0
