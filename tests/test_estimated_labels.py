"""Calibration rows without gold: their true labels are estimated, and what nothing is known about calibrates nothing."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.special import softmax

from hybrid.calibration.estimated_labels import EstimatedLabels, confusion_of, dawid_skene, estimate_labels
from hybrid.config import CalibrateConfig, DataConfig, Recipe, VerifyConfig
from hybrid.evaluation import metrics
from hybrid.files.table import write_rows
from hybrid.labels.sources import LabelSource
from hybrid.runtime.calibration import Calibration, apply
from hybrid.stages.calibrate import CALIBRATE, Calibrated, _estimated_labels, calibrate
from hybrid.stages.stage import StageIO
from hybrid.types import Decision, Example, Vote

LABELS = ("bad", "good", "plain")
CONFIG = CalibrateConfig()


def draw(n_rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits of an encoder that is a little underconfident, and the true labels' indices."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(n_rows, 3)) * 2.4
    gold = (softmax(true, axis=1).cumsum(axis=1) < rng.random((n_rows, 1))).sum(axis=1)
    return true * 0.8, np.minimum(gold, 2)


def noisy(gold: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Another label on that share of the rows."""
    rng = np.random.default_rng(seed)
    return np.where(rng.random(len(gold)) < share, (gold + rng.integers(1, 3, len(gold))) % 3, gold)


def rows_of(given: np.ndarray, annotators: tuple[np.ndarray, ...] = ()) -> list[Example]:
    return [
        Example(
            id=str(i),
            text="x",
            label=LABELS[label],
            part="calibration",
            annotations={f"person {n}": LABELS[labels[i]] for n, labels in enumerate(annotators)},
        )
        for i, label in enumerate(given)
    ]


def votes_of(*voters: np.ndarray) -> list[Vote]:
    return [
        Vote(id=str(i), status="ok", label=LABELS[label], teacher=f"voter {n}")
        for n, labels in enumerate(voters)
        for i, label in enumerate(labels)
    ]


def confusion(share: float) -> np.ndarray:
    return np.eye(3) * (1 - 1.5 * share) + share / 2


def calibrated(given: np.ndarray, logits: np.ndarray, estimated: EstimatedLabels) -> Calibrated:
    return calibrate(rows_of(given), LABELS, logits, CONFIG, seed=0, estimated=estimated)


def error_on_gold(calibration: Calibration) -> float:
    logits, gold = draw(4000, 99)
    return metrics.ece(apply(calibration, logits), gold)


@pytest.mark.parametrize(
    ("basis", "share"),
    [
        *((basis, share) for basis in ("votes", "annotators") for share in (0.1, 0.2, 0.3)),
        ("confusion", 0.05),
        ("confusion", 0.12),
    ],
)
def test_calibration_against_an_estimate_does_not_learn_the_noise(basis: str, share: float) -> None:
    logits, gold = draw(600, 0)
    given, others = noisy(gold, share, 1), [noisy(gold, 0.1, seed) for seed in (2, 3, 4)]
    rows = rows_of(given, (given, *others[:2]) if basis == "annotators" else ())
    estimated = estimate_labels(
        rows,
        LABELS,
        logits,
        with_gold=(),
        votes=votes_of(*others) if basis == "votes" else (),
        confusion=confusion(share) if basis == "confusion" else None,
    )
    assert estimated.basis == ("confusion" if basis == "confusion" else "votes")
    assert estimated.right == pytest.approx(float((given == gold).mean()), abs=0.06)
    found = calibrated(given, logits, estimated)
    as_given = calibrate(rows_of(given), LABELS, logits, CONFIG, seed=0).calibration
    assert error_on_gold(found.calibration) <= error_on_gold(Calibration()) + 0.005
    assert share < 0.1 or error_on_gold(found.calibration) < error_on_gold(as_given) - share / 8
    assert "rest on that estimate" in found.report["sentences"][-1]
    assert found.report["labels"]["basis"] == estimated.basis


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_the_promise_made_on_an_estimate_holds_against_gold(share: float) -> None:
    fresh, fresh_gold = draw(20_000, 99)
    for seed in range(5):
        logits, gold = draw(600, seed)
        given, others = noisy(gold, share, seed), [noisy(gold, 0.1, 10 * seed + n) for n in (2, 3, 4)]
        estimated = estimate_labels(rows_of(given), LABELS, logits, with_gold=(), votes=votes_of(*others))
        found = calibrated(given, logits, estimated)
        assert found.threshold.met  # against the labels as given, nothing would be
        probs = apply(found.calibration, fresh)
        kept = probs.max(axis=1) >= found.threshold.value
        assert (probs.argmax(axis=1) == fresh_gold)[kept].mean() >= CONFIG.target - 0.01


def test_where_nothing_is_known_the_probabilities_stay_and_the_report_says_why() -> None:
    logits, gold = draw(300, 0)
    given = noisy(gold, 0.2, 1)
    estimated = estimate_labels(rows_of(given), LABELS, logits, with_gold=())
    found = calibrated(given, logits, estimated)
    assert (estimated.basis, estimated.right) == ("given", None)
    assert found.calibration == Calibration()
    assert found.report["weights"] == {"none": 1.0}
    assert "how often their labels are right is unknown" in found.report["sentences"][-1]
    assert "data.gold" in found.report["sentences"][-1]
    assert not found.reference.trusted


def test_where_cleaning_finds_too_much_noise_the_probabilities_stay_too() -> None:
    logits, gold = draw(300, 0)
    given = noisy(gold, 0.3, 1)
    estimated = estimate_labels(rows_of(given), LABELS, logits, with_gold=(), confusion=confusion(0.3))
    found = calibrated(given, logits, estimated)
    assert estimated.basis == "given"
    assert found.calibration == Calibration()
    assert "% of such labels wrong, too many" in found.report["sentences"][-1]


def test_two_labels_a_row_cannot_tell_which_is_wrong() -> None:
    logits, gold = draw(300, 0)
    estimated = estimate_labels(rows_of(gold), LABELS, logits, with_gold=(), votes=votes_of(noisy(gold, 0.2, 1)))
    assert estimated.basis == "given"


def test_gold_rows_stay_as_they_are_beside_estimated_ones() -> None:
    logits, gold = draw(200, 0)
    given = noisy(gold, 0.1, 1)
    with_gold = {str(i) for i in range(50)}
    estimated = estimate_labels(rows_of(given), LABELS, logits, with_gold=with_gold, confusion=confusion(0.1))
    np.testing.assert_array_equal(estimated.targets[:50], np.eye(3)[given[:50]])
    assert (estimated.targets[50:].max(axis=1) < 1).all()
    assert estimated.n_without_gold == 150
    assert estimate_labels(rows_of(given), LABELS, logits, with_gold={str(i) for i in range(200)}).basis == "gold"


def test_votes_on_other_rows_and_abstentions_count_for_nothing() -> None:
    logits, gold = draw(100, 0)
    foreign = [
        Vote(id=f"train/{i}", status="ok", label="bad", teacher=f"voter {n}") for i in range(9) for n in range(3)
    ]
    silent = [Vote(id=str(i), status="abstained", teacher=f"voter {n}") for i in range(100) for n in range(3)]
    estimated = estimate_labels(rows_of(gold), LABELS, logits, with_gold=(), votes=[*foreign, *silent])
    assert (estimated.basis, estimated.labels_per_row) == ("given", 1.0)


def test_dawid_and_skene_find_each_sources_errors() -> None:
    gold = np.random.default_rng(0).integers(3, size=4000)
    labels = [noisy(gold, share, seed) for seed, share in enumerate((0.1, 0.3, 0.3, 0.4))]
    sources = [LabelSource(name="s", label=label, confidence=np.full(4000, np.nan)) for label in labels]
    targets, likelihood = dawid_skene(sources, 3)
    assert (targets.argmax(axis=1) == gold).mean() > 0.91 > (labels[1] == gold).mean()
    assert targets.max(axis=1).mean() == pytest.approx(float((targets.argmax(axis=1) == gold).mean()), abs=0.02)
    assert likelihood.shape == targets.shape


def test_the_confusion_of_the_given_labels_comes_from_what_cleaning_decided() -> None:
    decisions = [
        Decision(id=str(i), action=action, given=given, label=label, weight=1.0, probs=(), reason="")
        for i, (action, given, label) in enumerate(
            [("keep", "good", "good")] * 80 + [("relabel", "bad", "good")] * 20 + [("keep", "bad", "bad")] * 100
        )
    ]
    found = confusion_of(decisions, LABELS)
    assert found[1] == pytest.approx([0.2, 0.8, 0.0], abs=0.02)
    assert found[0] == pytest.approx([1.0, 0.0, 0.0], abs=0.02)
    assert found.sum(axis=1) == pytest.approx(1)
    dropped = Decision(id="x", action="drop", given="plain", label="bad", weight=0, probs=(), reason="")
    np.testing.assert_array_equal(confusion_of([*decisions, dropped], LABELS), found)


def stage_io(folder: Path, *, method: str = "consensus", ignored: tuple[str, ...] = (), n_voted: int = 60) -> StageIO:
    """The stage's reads in a run folder: 60 training rows, 6 of them relabelled, and 30 calibration rows without gold."""
    train = [Example(id=f"t{i}", text=f"train {i}", label="good" if i % 2 else "bad") for i in range(60)]
    rows = rows_of(np.arange(30) % 2)
    decisions = [
        Decision(
            id=row.id,
            action="keep",
            given=row.label,
            label="good" if i < 12 else row.label,
            weight=1.0,
            probs=(),
            reason="",
        )
        for i, row in enumerate(train)
    ]
    votes = [Vote(id=row.id, status="ok", label=row.label, teacher="teacher") for row in train[:n_voted]]
    tables = {"split/rows": [*train, *rows], "split/gold": [], "clean/decisions": decisions, "verify/votes": votes}
    for name, table in tables.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_rows(folder / f"{name}.jsonl", table)
    reports = {"split": {"labels": LABELS}, "clean": {"method_id": method, "ignored_sources": ignored}}
    imports = ("crowd.csv",) if (folder / "crowd.csv").is_file() else ()
    recipe = Recipe(name="dishes", data=DataConfig(), verify=VerifyConfig(imports=imports))
    resources: Any = SimpleNamespace(folder=folder, recipe_dir=folder, report=reports.__getitem__)
    return StageIO("calibrate", CALIBRATE.reads(recipe), CALIBRATE.writes, recipe, resources, "key")


def basis_in(io: StageIO) -> str:
    logits = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
    return _estimated_labels(io, io.rows("calibration"), logits).basis


def test_the_stage_takes_imported_votes_on_calibration_rows(tmp_path: Path) -> None:
    lines = [f"{i},{LABELS[i % 2]},{voter}" for i in range(30) for voter in ("ada", "bo")]
    (tmp_path / "crowd.csv").write_text("\n".join(["id,label,source", *lines, "t3,good,ada"]) + "\n")
    assert basis_in(stage_io(tmp_path)) == "votes"


def test_the_stage_takes_what_cleaning_corrected_where_it_could_see_the_noise(tmp_path: Path) -> None:
    assert basis_in(stage_io(tmp_path)) == "confusion"
    assert basis_in(stage_io(tmp_path, method="repair", n_voted=0)) == "confusion"
    for blind in ({"n_voted": 20}, {"ignored": ("teacher#0",)}, {"method": "given"}, {"method": "prune"}):
        assert basis_in(stage_io(tmp_path, **blind)) == "given"  # type: ignore[arg-type]
