"""train: the loss does what its papers say, batches waste little, and a killed training goes on."""

import json
import math
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hybrid.config import TrainConfig
from hybrid.data.training_rows import TrainingRow, class_weights, training_rows
from hybrid.encoders.batches import LengthGroupedSampler
from hybrid.encoders.checkpoint import load_classifier
from hybrid.encoders.epochs import last_within_one_error
from hybrid.encoders.loss import classification_loss
from hybrid.encoders.training import train
from hybrid.errors import DataError
from hybrid.runtime.text_encoder import TextLimits
from hybrid.types import Decision, Draft, Example
from tests.corpus import LABELS, texts_and_gold

TEXTS, GOLD = texts_and_gold(160)
EYE = np.eye(3)
READING = TextLimits(max_length=32)
ROWS = [
    TrainingRow(text=text, label=LABELS.index(gold), target=tuple(EYE[LABELS.index(gold)]), weight=1.0)
    for text, gold in zip(TEXTS, GOLD, strict=True)
]
CONFIG = TrainConfig(epochs=4, learning_rate=3e-3, batch_size=16, patience=4, precision="fp32")


def test_hard_targets_without_focus_give_plain_cross_entropy() -> None:
    logits, gold = torch.randn(8, 3), torch.randint(0, 3, (8,))
    ours = classification_loss(logits, torch.eye(3)[gold], torch.ones(8))
    assert ours == pytest.approx(torch.nn.functional.cross_entropy(logits, gold).item(), abs=1e-6)


def test_focal_loss_of_a_hard_target_is_that_of_the_paper() -> None:
    p = 0.7
    logits = torch.log(torch.tensor([[p, 0.2, 0.1]]))
    found = classification_loss(logits, torch.tensor([[1.0, 0.0, 0.0]]), torch.ones(1), focal_gamma=2.0)
    assert found.item() == pytest.approx(-((1 - p) ** 2) * math.log(p), abs=1e-6)


def test_a_row_of_weight_zero_teaches_nothing() -> None:
    logits = torch.randn(2, 3, requires_grad=True)
    classification_loss(logits, torch.eye(3)[:2], torch.tensor([1.0, 0.0])).backward()
    assert logits.grad is not None
    assert logits.grad[0].abs().sum() > 0
    assert logits.grad[1].abs().sum() == 0


def test_batches_hold_every_row_once_with_little_padding_and_differ_by_epoch() -> None:
    lengths = np.random.default_rng(0).integers(5, 100, 1000).tolist()
    sampler = LengthGroupedSampler(lengths, 16, seed=0)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert sorted(first) == sorted(second) == list(range(1000))
    assert first != second

    def padded(order: list[int]) -> int:
        return sum(max(lengths[i] for i in order[k : k + 16]) * len(order[k : k + 16]) for k in range(0, 1000, 16))

    assert padded(first) < 1.1 * sum(lengths) < padded(list(range(1000))) / 1.5


@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=400), st.integers(1, 40), st.integers(0, 9), st.integers(0, 9)
)
def test_whatever_the_lengths_an_epoch_holds_every_row_once_in_an_order_that_seed_and_epoch_fix(
    lengths: list[int], batch_size: int, seed: int, epoch: int
) -> None:
    sampler = LengthGroupedSampler(lengths, batch_size, seed)
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert sorted(order) == list(range(len(lengths)))
    assert len(sampler) == len(lengths)
    assert order == list(sampler)


def test_the_same_epoch_of_the_same_seed_has_the_same_order() -> None:
    one, two = (LengthGroupedSampler([3, 1, 2] * 50, 8, seed=3) for _ in range(2))
    assert list(one) == list(two)


def decision(row: Example, label: str, weight: float = 1.0) -> Decision:
    return Decision(
        id=row.id, action="keep", given=row.label, label=label, weight=weight, probs=(0.2, 0.7, 0.1), reason=""
    )


def test_training_rows_follow_the_decisions_and_leave_out_what_was_dropped() -> None:
    rows = [Example(id=str(i), text=f"t{i}", label="bad") for i in range(3)]
    decisions = [decision(rows[0], "good", 0.5), decision(rows[1], "bad"), decision(rows[2], "bad", 0.0)]
    drafts = [
        Draft(id="d", text="new", label="plain"),
        Draft(id="e", text="no", label="plain", status="refused", reason="why"),
    ]
    found = training_rows(rows, decisions, drafts, LABELS, TrainConfig(soft_labels=0.5))
    assert [(row.text, row.label, row.weight, row.synthetic) for row in found] == [
        ("t0", 1, 0.5, False),
        ("t1", 0, 1.0, False),
        ("new", 2, 1.0, True),
    ]
    assert found[0].target == pytest.approx((0.1, 0.85, 0.05))
    as_given = training_rows(rows, decisions, [], LABELS, TrainConfig(labels="given"))
    assert [(row.label, row.weight) for row in as_given] == [(0, 1.0)] * 3


def test_label_smoothing_spreads_a_little_over_all_labels() -> None:
    row = Example(id="0", text="t", label="bad")
    found = training_rows([row], [], [], LABELS, TrainConfig(labels="given", label_smoothing=0.3))
    assert found[0].target == pytest.approx((0.8, 0.1, 0.1))


def weights(folder: Path) -> torch.Tensor:
    return torch.cat([p.flatten() for p in load_classifier(folder, LABELS).parameters()])


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "deberta"])
def test_a_tiny_encoder_learns_and_one_epoch_is_kept(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    encoder = request.getfixturevalue(family)
    config = TrainConfig(epochs=10, learning_rate=5e-3, batch_size=8, patience=10, precision="fp32")
    found = train(ROWS, LABELS, config, encoder=encoder, reading=READING, workdir=tmp_path, seed=0)
    assert found.history[0].validation_macro_f1 < 0.4
    assert max(epoch.validation_macro_f1 for epoch in found.history) > 0.55
    best = [epoch for epoch in found.history if epoch.best]
    assert len(best) == 1
    assert best[0].validation_macro_f1 > max(epoch.validation_macro_f1 for epoch in found.history) - 0.13
    assert found.report["rows"] == {"fitted": 144, "validation": 16}


@pytest.mark.slow
def test_seeds_make_training_repeatable(bert: Path, tmp_path: Path) -> None:
    one, two, other = (
        train(ROWS, LABELS, CONFIG, encoder=bert, reading=READING, workdir=tmp_path / name, seed=seed).checkpoint
        for name, seed in (("one", 1), ("two", 1), ("other", 2))
    )
    assert torch.equal(weights(one), weights(two))
    assert not torch.equal(weights(one), weights(other))


@pytest.mark.slow
def test_a_killed_training_goes_on_from_its_last_whole_checkpoint_to_the_same_end(bert: Path, tmp_path: Path) -> None:
    class KilledError(Exception):
        pass

    def kill(step: int, _: int) -> None:
        if step == 23:
            raise KilledError

    whole = train(ROWS, LABELS, CONFIG, encoder=bert, reading=READING, workdir=tmp_path / "whole", seed=0)
    with pytest.raises(KilledError):
        train(ROWS, LABELS, CONFIG, encoder=bert, reading=READING, workdir=tmp_path / "cut", seed=0, on_step=kill)
    # A checkpoint that was being written when the process died has no state yet.
    shutil.copytree(tmp_path / "cut" / "checkpoint-18", tmp_path / "cut" / "checkpoint-99")
    (tmp_path / "cut" / "checkpoint-99" / "trainer_state.json").unlink()
    steps: list[int] = []
    resumed = train(
        ROWS, LABELS, CONFIG, encoder=bert, reading=READING, workdir=tmp_path / "cut", seed=0,
        on_step=lambda step, _: steps.append(step),
    )  # fmt: skip
    assert steps[0] == 19
    assert resumed.report["resumed_from_step"] == 18
    assert (weights(resumed.checkpoint) - weights(whole.checkpoint)).abs().max() < 1e-5
    assert [epoch.epoch for epoch in resumed.history] == [epoch.epoch for epoch in whole.history]


def test_balanced_class_weights_give_every_class_the_same_say_and_a_mean_of_one() -> None:
    counts = np.bincount([row.label for row in ROWS])
    balanced, none = (class_weights(ROWS, 3, TrainConfig(class_weights=kind)) for kind in ("balanced", "none"))
    assert np.ptp(balanced * counts) == pytest.approx(0)
    assert (balanced * counts).sum() == pytest.approx(len(ROWS))
    assert none == pytest.approx(np.ones(3))


def test_the_kept_epoch_is_the_last_that_is_not_clearly_worse_than_the_best() -> None:
    assert last_within_one_error([0.5, 0.80, 0.79, 0.78], [0.1, 0.03, 0.0, 0.0]) == 3
    assert last_within_one_error([0.5, 0.80, 0.70, 0.60], [0.9, 0.03, 0.9, 0.9]) == 1
    assert last_within_one_error([0.80, 0.79], [0.001, 0.001]) == 0


def test_one_class_left_stops_with_a_sentence(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="only one class is left"):
        train([ROWS[0]] * 3, LABELS, CONFIG, encoder=bert, reading=READING, workdir=tmp_path, seed=0)


def test_an_encoder_trains_in_bf16_on_any_processor(bert: Path, tmp_path: Path) -> None:
    config = msgspec.structs.replace(CONFIG, epochs=1, precision="bf16")
    trained = train(ROWS[:48], LABELS, config, encoder=bert, reading=READING, workdir=tmp_path, seed=0)
    assert trained.report["precision"] == "bf16"
    assert torch.isfinite(weights(trained.checkpoint)).all()
    assert weights(trained.checkpoint).dtype == torch.float32  # autocast: the weights themselves stay in fp32


@pytest.mark.parametrize(
    "setting", [{"accumulation_steps": 4}, {"gradient_checkpointing": True}], ids=lambda setting: next(iter(setting))
)
def test_what_saves_memory_trains_the_same_model(bert: Path, tmp_path: Path, setting: dict[str, object]) -> None:
    encoder = shutil.copytree(bert, tmp_path / "encoder")
    config = json.loads((encoder / "config.json").read_text())
    without_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (encoder / "config.json").write_text(json.dumps(config | without_dropout))
    plain = TrainConfig(epochs=2, learning_rate=5e-3, batch_size=8, precision="fp32")
    trained = [
        train(ROWS, LABELS, settings, encoder=encoder, reading=READING, workdir=tmp_path / name, seed=0).checkpoint
        for name, settings in (("plain", plain), ("lean", msgspec.structs.replace(plain, **setting)))
    ]
    assert (weights(trained[0]) - weights(trained[1])).abs().mean() < 1e-5  # their order of sums differs


def test_a_batch_that_does_not_come_apart_is_refused() -> None:
    with pytest.raises(ValueError, match="accumulation_steps = 3: expected a divisor of batch_size = 8"):
        TrainConfig(batch_size=8, accumulation_steps=3)
