"""The bound on how much worse a classifier is: right as often as it says, and never surer than the rows allow."""

import numpy as np
import pytest

from hybrid.evaluation.paired import accuracy_drop, macro_f1_drop


def one_hot(labels: np.ndarray) -> np.ndarray:
    return np.eye(3, dtype=bool)[labels]


def test_rows_that_all_stayed_the_same_bound_the_drop_by_what_so_few_rows_can_say() -> None:
    gold = one_hot(np.arange(600) % 3)
    found = accuracy_drop(gold, gold, gold, level=0.95)
    assert found.value == 0
    assert found.upper == pytest.approx(1 - 0.05 ** (1 / 600))


def test_a_drop_is_the_difference_of_the_accuracies() -> None:
    gold = np.arange(300) % 3
    after = gold.copy()
    after[:6] = (after[:6] + 1) % 3
    found = accuracy_drop(one_hot(gold), one_hot(gold), one_hot(after), level=0.95)
    assert found.value == pytest.approx(0.02)
    assert found.upper > 0.03
    f1 = macro_f1_drop(one_hot(gold), one_hot(gold), one_hot(after), level=0.95, n=500, seed=0)
    assert f1.value == pytest.approx(0.02, abs=1e-3)
    assert 0.02 < f1.upper < 0.05


@pytest.mark.slow
def test_the_accuracy_bound_is_missed_no_more_often_than_it_says() -> None:
    rng = np.random.default_rng(0)
    lost, won, n_rows, draws = 0.02, 0.01, 800, 600
    gold = one_hot(np.zeros(n_rows, dtype=int))
    missed = 0
    for _ in range(draws):
        chance = rng.random(n_rows)
        before = np.where((chance >= lost) & (chance < lost + won), 1, 0)
        after = np.where(chance < lost, 1, 0)
        missed += accuracy_drop(gold, one_hot(before), one_hot(after), level=0.95).upper < lost - won
    assert missed / draws < 0.08
    assert missed > 0
