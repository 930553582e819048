"""Metrics against figures worked by hand, against their formulas, and against what their definitions imply."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hybrid.evaluation import metrics

N_LABELS = 3


def sample(n_rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities [n, 3] and gold indices [n] drawn from them: a perfectly calibrated model."""
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet([0.5, 0.3, 0.7], size=n_rows)
    gold = (probs.cumsum(axis=1) < rng.random((n_rows, 1))).sum(axis=1)
    return probs, np.minimum(gold, N_LABELS - 1)


def test_the_scores_of_six_rows_are_those_worked_by_hand() -> None:
    gold, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 2, 2])
    assert metrics.accuracy(gold, predicted) == pytest.approx(4 / 6, abs=1e-12)
    # F1 = 2 * right / (in gold + predicted): 4/5, 2/4, 2/3.
    assert metrics.macro_f1(gold, predicted, N_LABELS) == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3, abs=1e-12)
    np.testing.assert_allclose(metrics.recall_by_class(gold, predicted, N_LABELS), [2 / 3, 1 / 2, 1], atol=1e-12)
    assert metrics.confusion_matrix(gold, predicted, N_LABELS).tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]


@given(
    st.integers(2, 6).flatmap(
        lambda k: st.tuples(st.just(k), st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1))
    )
)
def test_macro_f1_from_counts_is_macro_f1_whatever_labels_occur(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    n_labels, rows = drawn
    gold, predicted = np.array(rows).T
    expected = metrics.macro_f1(gold, predicted, n_labels)
    assert metrics.macro_f1_from_counts(gold, predicted, n_labels) == pytest.approx(expected, abs=1e-12)
    assert 0 <= expected <= 1


def test_confusion_has_gold_by_row() -> None:
    assert metrics.confusion_matrix(np.array([0, 0, 1]), np.array([1, 1, 1]), 2).tolist() == [[0, 2], [0, 1]]


def test_a_label_without_gold_rows_has_no_recall_and_one_never_seen_has_no_f1() -> None:
    gold, predicted = np.array([0, 0, 1]), np.array([0, 1, 1])
    assert np.isnan(metrics.recall_by_class(gold, predicted, 3)[2])
    assert metrics.macro_f1(gold, predicted, 3) == metrics.macro_f1(gold, predicted, 2) == pytest.approx(2 / 3)


def test_brier_and_nll_follow_their_formulas() -> None:
    probs, gold = sample(500)
    one_hot = np.eye(N_LABELS)[gold]
    assert metrics.brier(probs, gold) == pytest.approx(((probs - one_hot) ** 2).sum() / 500, abs=1e-12)
    assert metrics.nll(probs, gold) == pytest.approx(-np.log((probs * one_hot).sum(axis=1)).mean(), abs=1e-12)


def test_brier_counts_a_label_that_no_row_has() -> None:
    assert metrics.brier(np.array([[0.5, 0.2, 0.3]]), np.array([0])) == pytest.approx(0.25 + 0.04 + 0.09)


def test_nll_of_an_impossible_row_is_finite() -> None:
    assert metrics.nll(np.array([[1.0, 0.0]]), np.array([1])) == pytest.approx(-np.log(metrics.NLL_FLOOR))


def test_ece_of_two_bins_is_the_figure_worked_by_hand() -> None:
    probs = np.array([[0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.9, 0.1]])
    gold = np.array([0, 1, 0, 0])
    # Bins of two: |0.5 - 0.6| and |1.0 - 0.9|.
    assert metrics.ece(probs, gold, bins=2) == pytest.approx(0.1)


@given(arrays(float, st.tuples(st.integers(1, 60), st.just(3)), elements=st.floats(0.01, 1)), st.integers(1, 20))
def test_ece_is_at_most_the_worst_gap_and_at_least_the_gap_of_the_means(weights: np.ndarray, bins: int) -> None:
    probs = weights / weights.sum(axis=1, keepdims=True)
    gold = np.arange(len(probs)) % 3
    points = metrics.reliability_bins(probs, gold, bins)
    gaps = [abs(point.accuracy - point.confidence) for point in points]
    mean_gap = abs(float((probs.argmax(axis=1) == gold).mean() - probs.max(axis=1).mean()))
    error = metrics.ece(probs, gold, bins)
    assert sum(point.n_rows for point in points) == len(probs)
    assert len(points) == min(bins, len(probs))
    assert mean_gap - 1e-9 <= error <= max(gaps) + 1e-9
    assert 0 <= error <= 1


def test_ece_survives_fewer_rows_than_bins() -> None:
    assert metrics.ece(np.array([[0.7, 0.3]]), np.array([0])) == pytest.approx(0.3)


def test_reliability_bins_hold_equal_numbers_of_rows_and_all_of_them() -> None:
    probs, gold = sample(1000)
    bins = metrics.reliability_bins(probs, gold)
    sizes = [point.n_rows for point in bins]
    assert len(bins) == 15
    assert sum(sizes) == 1000
    assert max(sizes) - min(sizes) <= 1
    assert [point.confidence for point in bins] == sorted(point.confidence for point in bins)


def test_the_null_of_ece_is_the_ece_of_labels_drawn_from_the_probabilities() -> None:
    probs, _ = sample(300)
    rng = np.random.default_rng(1)
    drawn = [(probs.cumsum(axis=1) < rng.random((300, 1))).sum(axis=1) for _ in range(300)]
    values = [metrics.ece(probs, np.minimum(gold, N_LABELS - 1)) for gold in drawn]
    null = metrics.ece_null(probs, seed=2)
    assert null.mean == pytest.approx(np.mean(values), rel=0.05)
    assert null.p95 == pytest.approx(np.quantile(values, 0.95), rel=0.1)


def test_a_calibrated_model_stays_within_the_null_and_an_overconfident_one_does_not() -> None:
    within = 0
    for seed in range(40):
        probs, gold = sample(1200, seed)
        within += metrics.ece(probs, gold) <= metrics.ece_null(probs, draws=200, seed=seed).p95
    # Binomial(40, 0.95): fewer than 34 has a probability of 1 in 200.
    assert within >= 34
    sharp = probs**2 / (probs**2).sum(axis=1, keepdims=True)
    assert metrics.ece(sharp, gold) > metrics.ece_null(sharp, draws=200).p95


def test_risk_coverage_of_a_perfect_ranking_is_worked_by_hand() -> None:
    curve = metrics.risk_coverage(np.array([0.5, 0.9, 0.8, 0.7]), np.array([False, True, True, True]))
    assert curve.coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert curve.accuracy.tolist() == [1.0, 1.0, 1.0, 0.75]
    assert curve.risk.tolist() == [0.0, 0.0, 0.0, 0.25]
    assert curve.aurc == pytest.approx(0.0625)


def test_risk_coverage_does_not_depend_on_the_order_of_equally_confident_rows() -> None:
    confidence, correct = np.array([0.9, 0.5, 0.5, 0.5, 0.5]), np.array([1, 1, 1, 0, 0])
    one = metrics.risk_coverage(confidence, correct)
    other = metrics.risk_coverage(confidence[::-1], correct[::-1])
    np.testing.assert_allclose(one.accuracy, other.accuracy)
    assert one.accuracy[1] == pytest.approx(0.75)


def test_the_bootstrap_interval_of_accuracy_is_near_the_normal_one() -> None:
    correct = np.arange(1200) % 5 > 0
    interval = metrics.bootstrap_interval(metrics.accuracy, correct, np.ones(1200, dtype=bool), n=1000, seed=3)
    half = 1.96 * np.sqrt(0.8 * 0.2 / 1200)
    assert interval.value == pytest.approx(0.8)
    assert interval.low == pytest.approx(0.8 - half, abs=0.004)
    assert interval.high == pytest.approx(0.8 + half, abs=0.004)


def test_the_bootstrap_resamples_rows_and_not_columns() -> None:
    column = np.arange(50)
    assert metrics.bootstrap_interval(lambda a, b: float(np.all(a == b)), column, column, n=20).low == 1.0


def test_the_bootstrap_depends_on_its_seed_alone() -> None:
    probs, gold = sample(100)
    first, again, other = (
        metrics.bootstrap_interval(metrics.accuracy, gold, probs.argmax(axis=1), n=100, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_the_interval_is_the_percentiles_of_resampled_statistics() -> None:
    probs, gold = sample(60)
    correct = probs.argmax(axis=1) == gold
    rng = np.random.default_rng(7)
    values = [correct[rng.integers(0, 60, 60)].mean() for _ in range(500)]
    interval = metrics.bootstrap_interval(np.mean, correct, n=500, level=0.9, seed=7)
    np.testing.assert_allclose([interval.low, interval.high], np.quantile(values, [0.05, 0.95]), atol=1e-12)
    assert interval.value == correct.mean()


def test_an_interval_of_2000_resamples_calls_the_statistic_about_2000_times_on_all_rows() -> None:
    sizes: list[int] = []

    def statistic(column: np.ndarray) -> float:
        sizes.append(len(column))
        return float(column.mean())

    metrics.bootstrap_interval(statistic, np.arange(40.0), n=2000)
    assert set(sizes) == {40}
    assert 2000 <= len(sizes) <= 2010


def test_a_single_row_has_an_interval_of_no_width() -> None:
    interval = metrics.bootstrap_interval(np.mean, np.array([True]), n=20)
    assert (interval.low, interval.value, interval.high) == (1, 1, 1)
