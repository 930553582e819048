"""The limit of a calibration error: what a calibrator fitted on so few rows shows where its form is right."""

import numpy as np
import pytest
from scipy.special import softmax

from hybrid.calibration.averaging import cross_fit
from hybrid.calibration.calibrators import Fits
from hybrid.calibration.refitted_limit import refitted_ece
from hybrid.evaluation import metrics
from hybrid.runtime.calibration import Calibration, apply

METHODS = ("temperature", "vector", "top_label")
"""Those of a recipe that names none."""


def draw(n_rows: int, seed: int, bias: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits of an encoder that is overconfident and biased, and gold indices."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(n_rows, 3)) * 1.5
    gold = (softmax(true, axis=1).cumsum(axis=1) < rng.random((n_rows, 1))).sum(axis=1)
    return true * 2.0 + bias * np.array([1.0, 0.0, -1.0]), np.minimum(gold, 2)


@pytest.mark.slow
@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_the_average_that_ships_keeps_the_limit_in_most_draws_and_not_in_95_of_100(bias: float) -> None:
    n_within, one_hot = 0, np.eye(3)
    for seed in range(12):
        logits, gold = draw(150, seed, bias)
        test_logits, test_gold = draw(1500, 1000 + seed, bias)
        calibration = cross_fit(logits, one_hot[gold], METHODS, folds=5, seed=seed).calibration
        assert calibration.method == "average"
        error = metrics.ece(apply(calibration, test_logits), test_gold)
        n_within += error <= refitted_ece(calibration, logits, test_logits, seed=seed).p95
    assert 6 <= n_within <= 11


@pytest.mark.slow
def test_a_calibrator_of_the_right_form_keeps_the_refitted_limit_and_not_that_of_perfect_probabilities() -> None:
    within_refitted = within_perfect = 0
    for seed in range(12):
        logits, gold = draw(150, seed)
        test_logits, test_gold = draw(1500, 1000 + seed)
        calibration = Fits(logits, np.eye(3)[gold]).of("vector")
        probs = apply(calibration, test_logits)
        error = metrics.ece(probs, test_gold)
        within_refitted += error <= refitted_ece(calibration, logits, test_logits, seed=seed).p95
        within_perfect += error <= metrics.ece_null(probs, draws=200, seed=seed).p95
    assert within_refitted >= 11
    assert within_perfect < within_refitted - 2


def test_a_calibrator_of_the_wrong_form_exceeds_it() -> None:
    logits, _ = draw(600, 0)
    test_logits, test_gold = draw(1200, 1)
    overconfident = Calibration(method="temperature", temperature=0.5)
    error = metrics.ece(apply(overconfident, test_logits), test_gold)
    assert error > refitted_ece(overconfident, logits, test_logits, seed=0).p95


def test_without_a_calibrator_the_limit_is_that_of_perfect_probabilities() -> None:
    logits, test_logits = draw(100, 0)[0] / 2, draw(800, 1)[0] / 2
    limit = refitted_ece(Calibration(), logits, test_logits, seed=0)
    perfect = metrics.ece_null(apply(Calibration(), test_logits), seed=0)
    assert abs(limit.mean - perfect.mean) < 0.1 * perfect.mean


def test_sets_of_labels_have_a_limit_too() -> None:
    rng = np.random.default_rng(0)
    logits, test_logits = rng.normal(size=(80, 4)) * 2, rng.normal(size=(900, 4)) * 2
    calibration = Calibration(activation="sigmoid", cutoffs=(0.5,) * 4)
    limit = refitted_ece(calibration, logits, test_logits, seed=0)
    confidence = apply(calibration, test_logits)
    perfect = metrics.ece_null(np.where(confidence >= 0.5, confidence, 1 - confidence).prod(axis=1)[:, None], seed=0)
    assert limit.p95 > 1.2 * perfect.p95


def test_the_same_seed_gives_the_same_limit() -> None:
    logits, gold = draw(100, 0)
    calibration = cross_fit(logits, np.eye(3)[gold], METHODS, folds=5, seed=0).calibration
    assert refitted_ece(calibration, logits, logits, seed=3) == refitted_ece(calibration, logits, logits, seed=3)
