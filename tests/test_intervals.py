"""Intervals hold what they say, also on few rows and at the edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid.evaluation.intervals import auroc_interval, lower_p, share_interval, worse_p


@pytest.mark.parametrize(("hits", "n_rows"), [(0, 20), (11, 20), (20, 20), (170, 200)])
def test_the_share_interval_is_that_of_wilson(hits: int, n_rows: int) -> None:
    z, share = 1.959963984540054, hits / n_rows
    middle = (share + z**2 / (2 * n_rows)) / (1 + z**2 / n_rows)
    half = z / (1 + z**2 / n_rows) * (share * (1 - share) / n_rows + z**2 / (4 * n_rows**2)) ** 0.5
    interval = share_interval(hits, n_rows)
    assert (interval.low, interval.high) == pytest.approx((max(0, middle - half), min(1, middle + half)), abs=1e-9)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.floats(0.5, 0.99))
def test_a_share_lies_in_its_interval_which_narrows_with_rows_and_widens_with_the_level(
    counts: tuple[int, int], level: float
) -> None:
    hits, n_rows = counts
    interval = share_interval(hits, n_rows, level=level)
    assert 0 <= interval.low <= interval.value + 1e-12
    assert interval.value - 1e-12 <= interval.high <= 1
    width = interval.high - interval.low
    tenfold = share_interval(10 * hits, 10 * n_rows, level=level)
    surer = share_interval(hits, n_rows, level=0.999)
    assert tenfold.high - tenfold.low < width < surer.high - surer.low


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=40))
def test_an_auroc_is_the_share_of_pairs_in_order_and_lies_in_its_interval(rows: list[tuple[int, bool]]) -> None:
    score, right = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    estimate = auroc_interval(score, right)
    if right.all() or not right.any():
        assert estimate is None
        return
    assert estimate is not None
    pairs = np.sign(score[right][:, None] - score[~right][None, :]) / 2 + 0.5
    assert estimate.value == pytest.approx(pairs.mean(), abs=1e-9)
    assert 0 <= estimate.low <= estimate.value + 1e-9
    assert estimate.value - 1e-9 <= estimate.high <= 1


def test_a_perfect_ranking_of_few_rows_is_not_certain() -> None:
    found = auroc_interval(np.array([0.1, 0.2, 0.8, 0.9]), np.array([0, 0, 1, 1]))
    assert found is not None
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low < 0.7


def test_no_ranking_is_measured_where_every_row_is_right() -> None:
    assert auroc_interval(np.array([0.1, 0.9]), np.array([1, 1])) is None


def test_the_auroc_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    right = np.arange(100) < 70
    truth = 0.7602  # two normals with unit variance, one apart: Phi(1 / sqrt(2))
    found = [auroc_interval(rng.normal(right.astype(float), 1.0), right) for _ in range(300)]
    covered = np.mean([estimate is not None and estimate.low <= truth <= estimate.high for estimate in found])
    assert 0.92 <= covered <= 0.99


def test_a_way_is_worse_only_where_it_loses_more_rows_than_it_wins() -> None:
    best = np.ones(100, dtype=bool)
    worse = best.copy()
    worse[:5] = False
    assert worse_p(worse, best) == pytest.approx(1 / 32)
    assert worse_p(best, worse) == 1.0
    assert worse_p(best, best) == 1.0


def test_lower_losses_are_told_from_equal_ones() -> None:
    rng = np.random.default_rng(0)
    losses = rng.random(100)
    assert lower_p(losses - 0.2 - 0.1 * rng.random(100), losses) < 0.001
    assert lower_p(losses, losses) == 1.0
