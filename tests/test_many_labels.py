"""More than a thousand labels go through train, export, calibrate and the runtime, and no stage chokes on them."""

from pathlib import Path

import numpy as np
import pytest

import hybrid
from hybrid.config import CalibrateConfig, EvaluateConfig, ExportConfig, TrainConfig
from hybrid.data.training_rows import training_rows
from hybrid.encoders.checkpoint import vocabulary_of
from hybrid.encoders.exporting import export
from hybrid.encoders.training import train
from hybrid.evaluation.baseline import MOST_LABELS, baselines
from hybrid.evaluation.bundle_scores import Answers, evaluate, evaluate_sets
from hybrid.evaluation.metrics import NullEce
from hybrid.runtime.bundle_writer import write_bundle
from hybrid.runtime.calibration import apply
from hybrid.runtime.encoder import Encoder
from hybrid.runtime.text_encoder import TextLimits
from hybrid.stages.calibrate import calibrate
from hybrid.types import Example, Task
from tests.corpus import texts_and_gold

N_LABELS = 1100
LABELS = tuple(f"label {n:04d}" for n in range(N_LABELS))
READING = TextLimits(max_length=32)
CONFIG = TrainConfig(labels="given", epochs=1, batch_size=64, learning_rate=5e-3, precision="fp32")


def rows(n: int, task: Task) -> list[Example]:
    """Return rows each label has about the same number of; several labels a row are the number's and its half's."""
    texts, _ = texts_and_gold(n, seed=4)
    labels = [LABELS[i % N_LABELS] for i in range(n)]
    if task == "multi_label":
        labels = ["|".join(sorted({label, LABELS[i % N_LABELS // 2]})) for i, label in enumerate(labels)]
    return [
        Example(id=str(i), text=text, label=label) for i, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_a_thousand_labels_go_from_training_to_an_answer(task: Task, bert: Path, tmp_path: Path) -> None:
    given = rows(1600, task)
    learned = training_rows(given, [], [], LABELS, CONFIG, task=task)
    trained = train(
        learned, LABELS, CONFIG, encoder=bert, reading=READING, workdir=tmp_path / "train", seed=0, task=task
    )
    exported = tmp_path / "export"
    export(trained.checkpoint, given, LABELS, ExportConfig(parity_rows=16), folder=exported, reading=READING)
    logits = Encoder(exported, n_labels=N_LABELS, reading=READING).logits([row.text for row in given[:400]])
    # One step of the richest methods would do the same to 400 rows as to 4,000, only slower.
    config = CalibrateConfig(methods=("temperature", "vector"), folds=2)
    found = calibrate(given[:400], LABELS, logits, config, seed=0, task=task)
    bundle = tmp_path / "bundle"
    write_bundle(
        bundle,
        exported=exported,
        name="many",
        recipe_hash="0" * 64,
        encoder="tiny",
        task=task,
        labels=LABELS,
        reading=READING,
        calibration=found.calibration,
        threshold=found.threshold,
        policy="",
        vocabulary=vocabulary_of(trained.checkpoint),
        golden_texts=[given[0].text],
    )
    classifier = hybrid.load(bundle)
    answers = classifier.classify([row.text for row in given[:20]])
    probs = apply(found.calibration, logits[:20])
    for answer, row in zip(answers, probs, strict=True):
        assert list(answer.probs) == list(LABELS)
        assert list(answer.probs.values()) == pytest.approx(row.tolist(), abs=1e-4)
        assert 0 <= answer.confidence <= 1
        if task == "single_label":
            assert answer.labels == (answer.label,) == (LABELS[int(row.argmax())],)


def spoilt(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return logits [n, k] of an overconfident encoder that is mostly right, and the gold indices [n]."""
    rng = np.random.default_rng(seed)
    gold = np.arange(n) % N_LABELS
    logits = rng.normal(size=(n, N_LABELS)) * 1.5
    logits[np.arange(n), gold] += 6
    return (logits * 1.7).astype(np.float32), gold


@pytest.mark.slow
def test_every_method_calibrates_a_thousand_labels() -> None:
    logits, gold = spoilt(1200)
    found = [Example(id=str(i), text="x", label=LABELS[label]) for i, label in enumerate(gold)]
    calibrated = calibrate(found, LABELS, logits, CalibrateConfig(), seed=0)
    assert set(calibrated.report["cv_nll"]) == {"none", "temperature", "vector", "top_label", "average"}
    assert calibrated.report["after"]["nll"] < calibrated.report["before"]["nll"]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["single_label", "multi_label"])
def test_a_thousand_labels_are_scored_with_intervals(task: Task) -> None:
    logits, _ = spoilt(600)
    test = rows(600, task)
    config, threshold, nobody = EvaluateConfig(bootstrap=2000), 0.5, frozenset[str]()
    if task == "multi_label":
        calibration = calibrate(test, LABELS, logits, CalibrateConfig(), seed=0, task=task).calibration
        found = evaluate_sets(
            test, logits, calibration, LABELS, config, threshold=threshold, leaked_ids=nobody,
            refitted=NullEce(mean=0.0, p95=0.0), seed=0,
        )  # fmt: skip
    else:
        answers = Answers(
            logits=logits,
            probs=apply(
                calibrate(test, LABELS, logits, CalibrateConfig(methods=("temperature",)), seed=0).calibration,
                logits,
            ),
        )
        found = evaluate(
            test, answers, LABELS, config, threshold=threshold, leaked_ids=nobody, ask=lambda _: [], ask_everything=False,
            seed=0,
        )  # fmt: skip
    low, high = found.report["encoder"]["accuracy_interval"]
    assert low <= found.report["encoder"]["accuracy"] <= high


@pytest.mark.slow
def test_the_baseline_of_many_labels_is_the_nearest_centroid() -> None:
    labels = LABELS[: MOST_LABELS + 20]
    made = [
        Example(id=f"{n}-{i}", text=f"The word of {label} is w{n * 37}x{n * 91} {i}.", label=label)
        for n, label in enumerate(labels)
        for i in range(4)
    ]
    train_rows, test_rows = [r for r in made if not r.id.endswith("-3")], [r for r in made if r.id.endswith("-3")]
    found = baselines(train_rows, {"given": [row.label for row in train_rows]}, test_rows, labels)
    assert found["given"]["accuracy"] > 0.9
    assert baselines(train_rows, {"given": [r.label for r in train_rows]}, test_rows, labels, task="multi_label") == {}
