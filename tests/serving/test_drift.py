"""Drift: silent on texts like the calibration rows, and on others it says which quantity moved and how."""

import numpy as np
import pytest
from scipy.stats import binom, chi2, chi2_contingency

from serving.telemetry.drift import BLOCK, BLOCKS, DriftMonitor, chi_square_tail, compare
from serving.types import Answer
from tests.serving.answer_fixtures import answer, bundle_with, reference_of, traffic

WINDOW = BLOCK * BLOCKS


def watch(n_rows: int = 600, seed: int = 1000) -> DriftMonitor:
    reference = reference_of(traffic(n_rows, seed))
    return DriftMonitor(bundle_with(reference), reference)


def alarms(answers: list[Answer], drift: DriftMonitor | None = None) -> dict[str, str]:
    drift = drift or watch()
    drift.note(answers)
    return {item.quantity: item.says for item in drift.drifts if item.alarm}


def test_the_tail_of_chi_square_is_that_of_scipy() -> None:
    for freedom in range(1, 40):
        for statistic in (1e-6, 0.3, 4.0, 33.0, 120.0):
            assert chi_square_tail(statistic, freedom) == pytest.approx(chi2.sf(statistic, freedom), rel=1e-9)


def test_the_test_is_that_of_two_samples() -> None:
    recent, reference = [30, 50, 120], [90, 100, 210]
    assert compare(recent, reference)["p_value"] == pytest.approx(chi2_contingency([recent, reference]).pvalue)


def test_small_cells_are_put_together_and_empty_ones_are_passed_over() -> None:
    merged = compare([100, 100, 4], [200, 200, 5])
    assert merged == compare([100, 100, 1, 2, 1, 0], [200, 200, 2, 2, 1, 0])
    assert compare([500], [30])["p_value"] == 1
    assert compare([0, 500], [0, 30])["psi"] == 0


def test_where_nothing_moved_the_test_speaks_as_often_as_its_level_says() -> None:
    rng = np.random.default_rng(0)
    shares, n_windows, level = rng.dirichlet(np.full(10, 8.0)), 2000, 0.05
    spoke = sum(
        compare(rng.multinomial(WINDOW, shares).tolist(), rng.multinomial(600, shares).tolist())["p_value"] < level
        for _ in range(n_windows)
    )
    low, high = binom.interval(0.9999, n_windows, level)
    assert low <= spoke <= high


@pytest.mark.slow
def test_traffic_like_the_calibration_rows_raises_no_alarm() -> None:
    """Fresh calibration rows for every tenth window, since an unlucky draw of them would speak again and again."""
    spoke = 0
    for seed in range(20):
        drift = watch(n_rows=300, seed=1000 + seed)
        for window in range(10):
            spoke += bool(alarms(traffic(WINDOW, seed=100 * seed + window), drift))
    assert spoke <= 1


@pytest.mark.parametrize(
    ("shifted", "moved", "message"),
    [
        ({"confidence": (3.0, 2.0)}, {"confidence", "escalated"}, "are below the threshold"),
        ({"labels": (0.65, 0.2, 0.15)}, {"labels"}, "are labelled '"),
        ({"tokens": 34.0}, {"tokens"}, "have fewer than"),
    ],
)
def test_an_alarm_names_what_moved_and_nothing_else(shifted: dict[str, object], moved: set[str], message: str) -> None:
    alarm_names = alarms(traffic(WINDOW, seed=7, **shifted))  # type: ignore[arg-type]
    assert set(alarm_names) == moved
    assert any(message in sentence for sentence in alarm_names.values())


def test_the_sentence_counts_right() -> None:
    drift = watch()
    drift.note([answer("plain")] * BLOCK)
    says = {item.quantity: item.says for item in drift.drifts}
    share = reference_of(traffic(600, 1000)).labels["plain"] / 600
    expected = f"100% of the last 250 texts are labelled 'plain', compared with {share:.0%} of the calibration rows"
    assert says["labels"] == expected


def test_a_sure_difference_too_small_to_matter_raises_no_alarm() -> None:
    reference = reference_of(traffic(5_000, 3))
    drift = DriftMonitor(bundle_with(reference), reference)
    drift.note(traffic(WINDOW, seed=7, labels=(0.48, 0.37, 0.15)))
    labels = next(item for item in drift.drifts if item.quantity == "labels")
    assert labels.p_value < 1e-5
    assert not labels.alarm


def test_an_alarm_ends_when_the_texts_are_as_before() -> None:
    drift = watch()
    assert "tokens" in alarms(traffic(WINDOW, 7, tokens=34.0), drift)
    assert not alarms(traffic(WINDOW, 8), drift)


def test_nothing_is_said_before_a_block_is_full() -> None:
    drift = watch()
    assert not drift.note(traffic(BLOCK - 1, 7))
    assert drift.drifts == ()
    assert drift.note(traffic(1, 8))
    assert len(drift.drifts) == 4


def test_a_label_that_calibration_never_saw_counts_as_other() -> None:
    alarm_names = alarms([answer("odd") for _ in range(BLOCK)])
    assert "100% of the last 250 texts are labelled 'other'" in alarm_names["labels"]


def test_memory_does_not_grow_with_traffic() -> None:
    drift = watch()
    for seed in range(8):
        drift.note(traffic(BLOCK, seed))
    assert drift.n_recent == WINDOW
    assert {len(count.blocks) for count in drift._counts} == {BLOCKS}
    assert all(sum(item.recent()) == WINDOW for item in drift._counts)
