"""The point of escalation: its promise holds in simulation, and the naive one's does not."""

import numpy as np
import pytest
from scipy.stats import beta

from hybrid.escalation import candidates, choose_threshold, lower_bound, naive_threshold, say
from hybrid.runtime.calibration import NOTHING_KEPT

TARGET, DELTA = 0.9, 0.1


def draw(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return calibrated confidences and whether each row is right: about 0.8 in all."""
    confidence = 0.5 + 0.5 * rng.beta(2, 1.3, n)
    return confidence, rng.random(n) < confidence


def true_accuracy(threshold: float) -> float:
    confidence, _ = draw(np.random.default_rng(99), 400_000)
    return float(confidence[confidence >= threshold].mean())


def test_the_bound_is_clopper_and_pearsons() -> None:
    assert lower_bound(95, 100, 0.1) == pytest.approx(beta.ppf(0.1, 95, 6))
    assert lower_bound(0, 10, 0.1) == 0
    assert lower_bound(22, 22, 0.1) == pytest.approx(0.1 ** (1 / 22))


@pytest.mark.slow
def test_the_promise_holds_and_the_naive_threshold_breaks_it_in_about_half_of_the_draws() -> None:
    rng = np.random.default_rng(0)
    ours, naive, shares = [], [], []
    for _ in range(300):
        confidence, correct = draw(rng, 500)
        chosen = choose_threshold(confidence, correct, target=TARGET, delta=DELTA)
        ours.append(chosen.met and true_accuracy(chosen.value) < TARGET)
        shares.append(chosen.kept)
        naive.append(true_accuracy(naive_threshold(confidence, correct, target=TARGET, delta=DELTA).value) < TARGET)
    assert np.mean(ours) <= DELTA + 2 * np.sqrt(DELTA * (1 - DELTA) / 300)
    assert 0.3 < np.mean(naive) < 0.7
    assert np.mean(shares) > 0.25


def test_what_is_kept_passes_the_bound() -> None:
    confidence, correct = draw(np.random.default_rng(1), 800)
    chosen = choose_threshold(confidence, correct, target=TARGET, delta=DELTA)
    assert chosen.met
    assert chosen.lower_bound is not None
    assert chosen.lower_bound >= TARGET
    assert chosen.kept == np.mean(confidence >= chosen.value)
    assert "With probability 90% the encoder is right in at least 90%" in say(chosen)


def test_the_candidates_do_not_depend_on_the_labels_and_go_from_strict_to_loose() -> None:
    confidence, _ = draw(np.random.default_rng(2), 300)
    found = candidates(confidence, target=TARGET, delta=DELTA)
    assert found == sorted(found, reverse=True)
    assert found[-1] == confidence.min()


def test_rows_that_cannot_support_the_target_escalate_everything_and_say_how_many_would() -> None:
    confidence, correct = draw(np.random.default_rng(3), 25)
    missed = choose_threshold(confidence, correct, target=0.97, delta=0.05)
    assert (missed.met, missed.value, missed.kept) == (False, NOTHING_KEPT, 0)
    sure = np.full(40, 0.99)
    few = choose_threshold(sure, np.arange(40) > 0, target=0.95, delta=0.05)
    assert not few.met
    assert few.rows_needed is not None
    assert few.rows_needed > 40
    assert f"about {few.rows_needed} rows would" in say(few)


def test_a_classifier_that_is_never_good_enough_is_told_that_no_number_of_rows_helps() -> None:
    correct = np.arange(200) % 2 == 0
    missed = choose_threshold(np.full(200, 0.5), correct, target=0.9, delta=0.1)
    assert missed.rows_needed is None
    assert "more rows would not either" in say(missed)
