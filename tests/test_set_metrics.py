"""The scores of several labels a row follow their formulas, and their intervals are the bootstrap's."""

import numpy as np
import pytest

from hybrid.evaluation import metrics, set_metrics

RNG = np.random.default_rng(3)
GOLD = RNG.random((200, 6)) < (0.5, 0.3, 0.2, 0.1, 0.05, 0.0)
CHOSEN = GOLD ^ (RNG.random(GOLD.shape) < 0.1)


def test_the_scores_follow_their_formulas() -> None:
    both, in_gold, in_chosen = (GOLD & CHOSEN).sum(axis=0), GOLD.sum(axis=0), CHOSEN.sum(axis=0)
    f1 = 2 * both / (in_gold + in_chosen)
    assert set_metrics.subset_accuracy(GOLD, CHOSEN) == pytest.approx((GOLD == CHOSEN).all(axis=1).mean(), abs=1e-12)
    micro = 2 * both.sum() / (in_gold.sum() + in_chosen.sum())
    assert set_metrics.micro_f1(GOLD, CHOSEN) == pytest.approx(micro, abs=1e-12)
    assert set_metrics.macro_f1_of_sets(GOLD, CHOSEN) == pytest.approx(f1.mean(), abs=1e-12)
    recall, precision = set_metrics.recall_by_label(GOLD, CHOSEN), set_metrics.precision_by_label(GOLD, CHOSEN)
    np.testing.assert_allclose(recall[:5], both[:5] / in_gold[:5])
    np.testing.assert_allclose(precision, both / in_chosen)
    assert np.isnan(recall[5])


def test_a_label_that_nobody_names_is_left_out_of_macro_f1() -> None:
    one = np.array([[True, False], [False, False]])
    assert set_metrics.macro_f1_of_sets(one, one) == 1
    nothing = np.zeros_like(one)
    assert set_metrics.macro_f1_of_sets(nothing, nothing) == 0
    assert set_metrics.micro_f1(nothing, nothing) == 1


def test_the_intervals_are_those_of_resampled_rows() -> None:
    found = set_metrics.set_scores(GOLD, CHOSEN, n=600, level=0.9, seed=0)
    for interval, statistic in (
        (found.subset_accuracy, set_metrics.subset_accuracy),
        (found.micro_f1, set_metrics.micro_f1),
        (found.macro_f1, set_metrics.macro_f1_of_sets),
    ):
        slow = metrics.bootstrap_interval(statistic, GOLD, CHOSEN, n=600, level=0.9, seed=1)
        assert interval.value == slow.value
        assert interval.low == pytest.approx(slow.low, abs=0.02)
        assert interval.high == pytest.approx(slow.high, abs=0.02)
        assert interval.low < interval.value < interval.high


def test_nll_and_brier_sum_over_the_labels() -> None:
    probs, gold = np.array([[0.9, 0.2]]), np.array([[True, False]])
    assert set_metrics.nll_of_sets_by_row(probs, gold) == pytest.approx(-np.log(0.9) - np.log(0.8))
    assert set_metrics.brier_of_sets(probs, gold) == pytest.approx(0.01 + 0.04)


def test_a_confidence_that_is_right_as_often_as_it_says_has_no_calibration_error() -> None:
    confidence = np.repeat([0.25, 0.75], 100)
    correct = np.concatenate([np.arange(100) < 25, np.arange(100) < 75])
    order = np.random.default_rng(0).permutation(200)
    assert metrics.ece_of_confidence(confidence[order], correct[order], bins=2) == pytest.approx(0)
    assert metrics.ece_of_confidence(confidence + 0.1, correct, bins=2) == pytest.approx(0.1)


def test_the_error_of_macro_f1_is_far_wider_than_a_shares_where_a_label_is_rare() -> None:
    gold = np.zeros((250, 2), dtype=bool)
    gold[:, 0], gold[:6, 0], gold[:6, 1] = True, False, True
    chosen = gold.copy()
    chosen[:3] = [True, False]
    share = (0.75 * 0.25 / 250) ** 0.5
    assert set_metrics.macro_f1_error(gold, chosen) > 3 * share
    assert set_metrics.macro_f1_error(gold, gold) == 0
