"""The training precision: chosen by a short timed trial that ends soon, gives bf16 up where it fails, and says why."""

from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from hybrid.config import TrainConfig
from hybrid.data.training_rows import TrainingRow
from hybrid.encoders import device
from hybrid.encoders.device import PrecisionChoice, choose_precision, faster_of, read_choice
from hybrid.encoders.training import Trained, train
from hybrid.runtime.text_encoder import TextLimits
from tests.corpus import LABELS, texts_and_gold

TEXTS, GOLD = texts_and_gold(48)
ROWS = [
    TrainingRow(text=text, label=LABELS.index(gold), target=tuple(np.eye(3)[LABELS.index(gold)]), weight=1.0)
    for text, gold in zip(TEXTS, GOLD, strict=True)
]
BATCH = {"x": torch.ones(16, 4)}
Loss = Callable[[torch.nn.Module, Mapping[str, torch.Tensor]], torch.Tensor]


def plain_loss(model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return model(batch["x"]).float().square().mean()


def chosen(loss: Loss = plain_loss) -> PrecisionChoice:
    return choose_precision(torch.nn.Linear(4, 2), BATCH, loss)


@pytest.fixture
def bf16_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "has_bf16", lambda _device: True)


def take(monkeypatch: pytest.MonkeyPatch, *, fp32: float, bf16: float) -> list[tuple[int, bool]]:
    """Let every step take so many seconds; return the rows and the precision of each step as they come."""
    steps: list[tuple[int, bool]] = []

    def step(_model: object, batch: Mapping[str, torch.Tensor], *_: object, **options: bool) -> float:
        steps.append((len(batch["x"]), options["bf16"]))
        return bf16 if options["bf16"] else fp32

    monkeypatch.setattr(device, "_seconds_of_step", step)
    return steps


def test_without_hardware_for_bf16_nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "has_bf16", lambda _device: False)
    steps = take(monkeypatch, fp32=1.0, bf16=0.1)
    assert chosen() == PrecisionChoice(precision="fp32", reason="no_bf16_hardware")
    assert steps == []


@pytest.mark.parametrize(("amx", "avx512_bf16"), [(False, False), (True, False), (False, True), (True, True)])
def test_amx_or_avx512_bf16_is_hardware_for_bf16(amx: bool, avx512_bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    assert device.has_bf16("cpu") == (amx or avx512_bf16)


def test_a_torch_that_cannot_say_trains_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in device.CPU_BF16:
        monkeypatch.delattr(torch.cpu, name)
    assert not device.has_bf16("cpu")


@pytest.mark.parametrize(
    ("fp32", "bf16", "precision", "reason"),
    [
        (0.48, 0.23, "bf16", "bf16_faster"),
        (0.23, 0.20, "bf16", "bf16_faster"),
        (0.21, 0.20, "fp32", "bf16_not_faster"),
        (0.20, 0.90, "fp32", "bf16_not_faster"),
    ],
)
def test_bf16_is_taken_where_it_is_clearly_faster(
    fp32: float, bf16: float, precision: str, reason: str, bf16_hardware: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(monkeypatch, fp32=fp32, bf16=bf16)
    choice = chosen()
    assert (choice.precision, choice.reason) == (precision, reason)
    assert choice.seconds == {"fp32": fp32, "bf16": bf16}
    assert faster_of(choice.seconds) == choice


def test_bf16_that_is_far_slower_is_given_up_after_one_step_on_two_rows(
    bf16_hardware: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = take(monkeypatch, fp32=0.1, bf16=10.0)
    choice = chosen()
    assert (choice.precision, choice.reason) == ("fp32", "bf16_far_slower")
    assert choice.seconds == {"fp32": 0.1, "bf16": 10.0}
    assert steps == [(2, False), (2, True)]


def test_the_trial_takes_no_further_round_once_its_time_is_up(
    bf16_hardware: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = take(monkeypatch, fp32=40.0, bf16=30.0)
    assert chosen().reason == "bf16_faster"
    assert [rows for rows, _ in steps] == [2, 2, 16, 16]


def test_the_first_round_on_the_whole_batch_only_warms_up(bf16_hardware: None, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = iter([(0.1, 0.1), (9.0, 0.2), (0.3, 0.2), (0.4, 0.1), (0.5, 0.3)])
    pending: list[float] = []

    def step(*_: object, bf16: bool) -> float:
        if not bf16:
            pending[:] = next(rounds)
        return pending[bf16]

    monkeypatch.setattr(device, "_seconds_of_step", step)
    assert chosen().seconds == {"fp32": 0.3, "bf16": 0.1}


def test_a_processor_that_fails_in_bf16_trains_in_fp32_and_the_error_is_kept(bf16_hardware: None) -> None:
    def loss(model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        if torch.is_autocast_enabled(device.training_device()):
            raise RuntimeError("could not create a primitive\nC++ stack trace")
        return plain_loss(model, batch)

    assert chosen(loss) == PrecisionChoice(precision="fp32", reason="bf16_failed", error="could not create a primitive")


def test_a_loss_that_is_no_number_in_bf16_counts_as_a_failure(bf16_hardware: None) -> None:
    def loss(model: torch.nn.Module, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        factor = torch.nan if torch.is_autocast_enabled(device.training_device()) else 1.0
        return plain_loss(model, batch) * factor

    choice = chosen(loss)
    assert (choice.precision, choice.reason) == ("fp32", "bf16_failed")
    assert "not a finite number" in choice.error


def test_an_error_in_fp32_is_no_verdict_on_bf16(bf16_hardware: None) -> None:
    def loss(_model: object, _batch: object) -> torch.Tensor:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        chosen(loss)


def trained(bert: Path, workdir: Path, config: TrainConfig) -> Trained:
    reading = TextLimits(max_length=32)
    config = msgspec.structs.replace(config, epochs=1, batch_size=16, learning_rate=3e-3)
    return train(ROWS, LABELS, config, encoder=bert, reading=reading, workdir=workdir, seed=0)


@pytest.mark.slow
def test_the_report_of_train_says_what_decided_the_precision(
    bert: Path, tmp_path: Path, bf16_hardware: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    faster = PrecisionChoice(precision="bf16", reason="bf16_faster", seconds={"fp32": 0.4, "bf16": 0.2})
    monkeypatch.setattr(device, "faster_of", lambda _seconds: faster)
    report = trained(bert, tmp_path, TrainConfig()).report
    assert (report["precision"], report["precision_reason"]) == ("bf16", "bf16_faster")
    assert report["seconds_a_step_in_trial"] == {"fp32": 0.4, "bf16": 0.2}
    named = trained(bert, tmp_path / "named", TrainConfig(precision="fp32")).report
    assert (named["precision"], named["precision_reason"]) == ("fp32", "set_by_recipe")


@pytest.mark.slow
def test_a_resumed_training_keeps_the_choice_that_version_0_1_0_wrote(bert: Path, tmp_path: Path) -> None:
    (tmp_path / "precision.json").write_text('["bf16", {"fp32": 0.48, "bf16": 0.23}]')
    report = trained(bert, tmp_path, TrainConfig()).report
    assert (report["precision"], report["precision_reason"]) == ("bf16", "bf16_faster")


@pytest.mark.parametrize(
    ("kept", "reason"),
    [
        ('["fp32", {}]', "no_bf16_hardware"),
        ('["fp32", {"fp32": 0.2, "bf16": 0.3}]', "bf16_not_faster"),
        ('["bf16", {"fp32": 0.4, "bf16": 0.2}]', "bf16_faster"),
    ],
)
def test_a_choice_kept_by_an_earlier_version_reads(kept: str, reason: str) -> None:
    assert read_choice(kept.encode()).reason == reason


def test_a_choice_survives_its_file() -> None:
    choice = PrecisionChoice(precision="fp32", reason="bf16_failed", error="no")
    assert read_choice(msgspec.json.encode(choice)) == choice
