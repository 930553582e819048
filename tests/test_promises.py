"""What a bundle says of the promises that its calibration rows support, and of a threshold of one's own."""

import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from hybrid.__main__ import main
from hybrid.calibration.reference import curve, promises
from hybrid.calibration.threshold import choose_threshold
from hybrid.files.table import write_json
from hybrid.runtime.bundle import MANIFEST, read_bundle, sealed
from hybrid.runtime.calibration import Threshold
from hybrid.runtime.calibration_reference import Histogram, Reference
from hybrid.runtime.promises import advice, effect_line, promise_lines, threshold_line

DELTA = 0.1


def facts(n_rows: int, *, target: float) -> tuple[Threshold, Reference]:
    """Those of an encoder whose confidence runs evenly from 0.6 to 0.95 and is right as often as it says."""
    confidence = np.linspace(0.6, 0.95, n_rows)
    correct = np.random.default_rng(0).random(n_rows) < confidence
    threshold = choose_threshold(confidence, correct, target=target, delta=DELTA)
    reference = Reference(
        n_rows=n_rows,
        trusted=True,
        confidence=Histogram(edges=(), rows=(n_rows,)),
        labels={"good": n_rows},
        escalated=0,
        delta=DELTA,
        curve=curve(confidence, correct, threshold),
        promises=promises(confidence, correct, target=target, delta=DELTA),
    )
    return threshold, reference


def test_each_promise_says_its_threshold_or_how_many_rows_it_needs() -> None:
    _, reference = facts(600, target=0.88)
    by_target = {promise.target: promise for promise in reference.promises}
    assert 0.88 in by_target
    for promise in reference.promises:
        assert (promise.threshold is None) == (promise.kept == 0)
        if promise.rows_needed is not None:
            assert promise.threshold is None
            assert promise.rows_needed > 600
    assert by_target[0.7].threshold is not None
    assert by_target[0.99].threshold is None
    assert by_target[0.99].rows_needed is None  # it is never right that often
    kept = [promise.kept for promise in reference.promises]
    assert kept == sorted(kept, reverse=True)


def test_lines_name_rows_and_thresholds() -> None:
    threshold, reference = facts(600, target=0.93)
    assert not threshold.met
    assert "everything escalates: 600 calibration rows do not support 93%; " in threshold_line(threshold)
    lines = promise_lines(reference)
    assert len(lines) == len(reference.promises)
    assert lines[0].startswith("70% right: --threshold 0.")
    assert lines[-1].startswith("99% right: 600 calibration rows do not support it; no number of rows would")
    assert any(line.endswith("would") and "; about " in line for line in lines)


def test_a_bundle_with_which_everything_escalates_says_which_threshold_would_help() -> None:
    threshold, reference = facts(600, target=0.93)
    best = [promise for promise in reference.promises if promise.threshold is not None][-1]
    assert f"--threshold {best.threshold} instead promises {best.target:.0%}" in advice(threshold, reference)
    old = msgspec.structs.replace(reference, promises=())
    assert "--threshold sets one of your own, without a promise" in advice(threshold, old)
    assert advice(*facts(600, target=0.7)) == ""


@pytest.mark.parametrize("value", [0.0, 0.7, 0.9])
def test_the_effect_of_a_threshold_is_that_of_the_nearest_point_above_it(value: float) -> None:
    _, reference = facts(600, target=0.7)
    point = next(point for point in reference.curve if point.threshold >= value)
    line = effect_line(reference, value)
    assert line.startswith(f"--threshold {value} keeps about {point.kept:.0%} of 600 calibration rows")
    assert f"{point.accuracy:.1%} are right" in line


def test_without_a_record_of_the_rows_nothing_is_said_of_them() -> None:
    threshold, reference = facts(600, target=0.7)
    assert effect_line(None, 0.5) == effect_line(reference, 1.0) == ""
    assert promise_lines(None) == []
    assert advice(threshold, None) == ""


def test_info_and_score_print_them(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bundle_dir = Path(shutil.copytree(Path(__file__).parent / "golden" / "bundle-format-3", tmp_path / "bundle"))
    threshold, reference = facts(600, target=0.93)
    bundle = msgspec.structs.replace(read_bundle(bundle_dir), threshold=threshold, reference=reference)
    write_json(bundle_dir / MANIFEST, sealed(bundle))
    assert main(["info", str(bundle_dir)]) == 0
    shown = capfd.readouterr().out
    assert "everything escalates: 600 calibration rows do not support 93%" in shown
    assert all(line in shown for line in promise_lines(reference))
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "Good soup."}\n')
    assert main(["score", str(rows), str(tmp_path / "a.jsonl"), "--bundle", str(bundle_dir)]) == 0
    assert advice(threshold, reference) in capfd.readouterr().err
    words = ["score", str(rows), str(tmp_path / "b.jsonl"), "--bundle", str(bundle_dir), "--threshold", "0.7"]
    assert main(words) == 0
    assert effect_line(reference, 0.7) in capfd.readouterr().err
