"""The reference: the calibration rows as the bundle answers them, and what a threshold would come to on them."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

import hybrid
from hybrid.calibration.reference import counts_by_label, curve, histogram
from hybrid.calibration.threshold import lower_bound
from hybrid.files.table import read_rows
from hybrid.runtime.bundle import Bundle
from hybrid.runtime.calibration import NOTHING_KEPT, Threshold
from hybrid.types import Example

NOTHING = Threshold(value=NOTHING_KEPT, target=0.9, delta=0.1, n_rows=9, kept=0.0, met=False)


def test_cells_hold_about_equal_numbers_of_rows_and_every_row_is_in_one() -> None:
    values = np.random.default_rng(0).beta(5, 2, 600)
    found = histogram(values)
    assert len(found.rows) == len(found.edges) + 1 == 10
    assert set(found.rows) == {60}
    assert [sum(found.cell(value) == i for value in values) for i in range(10)] == list(found.rows)


def test_equal_values_share_a_cell_and_rounding_moves_none_over_an_edge() -> None:
    values = np.repeat([0.2, 0.5, 0.9], [100, 300, 200])
    found = histogram(values)
    assert found.rows == (100, 300, 200)
    assert all(found.cell(value + 1e-3) == found.cell(value) for value in (0.2, 0.5, 0.9))


@pytest.mark.parametrize(("values", "n_cells"), [([7.0] * 500, 1), ([1.0, 2.0], 1), (list(range(40)), 4)])
def test_few_rows_and_a_single_value_make_few_cells(values: list[float], n_cells: int) -> None:
    found = histogram(values)
    assert len(found.rows) == n_cells
    assert sum(found.rows) == len(values)


def test_labels_come_the_most_frequent_first() -> None:
    assert list(counts_by_label(["b", "a", "c", "a", "c"]).items()) == [("a", 2), ("c", 2), ("b", 1)]


def test_the_curve_counts_what_each_threshold_keeps_and_bounds_it_from_below() -> None:
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0.3, 1, 500)
    correct = rng.random(500) < confidence
    found = curve(confidence, correct, NOTHING)
    assert found[0].kept == 1
    assert [point.kept for point in found] == sorted((point.kept for point in found), reverse=True)
    for point in found:
        kept = confidence >= point.threshold
        assert point.kept == pytest.approx(kept.mean())
        assert point.accuracy == pytest.approx(correct[kept].mean())
        assert point.lower_bound == lower_bound(int(correct[kept].sum()), int(kept.sum()), 0.1) < point.accuracy
    assert found[-1].kept * 500 >= 10


def test_the_chosen_threshold_stands_on_the_curve() -> None:
    confidence, correct = np.linspace(0.3, 1, 500), np.ones(500, dtype=bool)
    chosen = msgspec.structs.replace(NOTHING, value=0.777777, kept=0.3)
    assert 0.777777 in [point.threshold for point in curve(confidence, correct, chosen)]
    assert 0.777777 not in [point.threshold for point in curve(confidence, correct, NOTHING)]


def test_a_finished_bundle_answers_its_calibration_rows_as_its_reference_says(finished: Path) -> None:
    classifier = hybrid.load(finished / "bundle")
    reference = classifier.bundle.reference
    assert reference is not None
    assert reference.tokens is not None
    rows = [row for row in read_rows(finished / "split" / "rows.jsonl", Example) if row.part == "calibration"]
    answers = classifier.classify([row.text for row in rows])
    assert reference.n_rows == len(rows) == sum(reference.tokens.rows)
    cells = [reference.confidence.cell(answer.confidence) for answer in answers]
    assert np.bincount(cells, minlength=len(reference.confidence.rows)).tolist() == list(reference.confidence.rows)
    assert reference.labels == counts_by_label([answer.label for answer in answers])
    assert reference.escalated == sum(answer.escalate for answer in answers)
    assert reference.curve[0].kept == 1


def test_a_bundle_without_a_reference_still_loads(finished: Path) -> None:
    manifest = json.loads((finished / "bundle" / "bundle.json").read_bytes())
    del manifest["reference"]
    assert msgspec.json.decode(json.dumps(manifest), type=Bundle).reference is None
