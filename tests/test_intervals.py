"""Intervals hold what they say, also on few rows and at the edges."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from hybrid.evaluation.intervals import auroc_interval, lower_p, share_interval, worse_p


@pytest.mark.parametrize(("hits", "n_rows"), [(0, 20), (11, 20), (20, 20), (170, 200)])
def test_the_share_interval_is_that_of_wilson(hits: int, n_rows: int) -> None:
    found, wanted = share_interval(hits, n_rows), binomtest(hits, n_rows).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-9)


def test_the_auroc_is_that_of_scikit_learn_ties_included() -> None:
    rng = np.random.default_rng(0)
    score, right = rng.integers(0, 5, 200), rng.random(200) < 0.7
    found = auroc_interval(score, right)
    assert found is not None
    assert found.value == pytest.approx(roc_auc_score(right, score))
    assert found.low < found.value < found.high


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
