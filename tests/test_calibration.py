"""From logits to probabilities, and the choice of the threshold."""

import json
import subprocess
import sys

import numpy as np
import pytest
from scipy.special import softmax as scipy_softmax
from scipy.stats import binom, binomtest
from sklearn.isotonic import IsotonicRegression

from hybrid.calibration.calibrators import Fits
from hybrid.calibration.threshold import (
    candidates,
    choose_threshold,
    describe_threshold,
    fewest_rows,
    lower_bound,
    naive_threshold,
)
from hybrid.errors import BundleError
from hybrid.runtime.calibration import NOTHING_KEPT, Calibration, Knots, apply

LOGITS = np.array([[2.0, -1.0, 0.5], [0.0, 0.0, 0.0], [-3.0, 4.0, 1.0]])


def some_logits(n_rows: int, seed: int = 0, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return logits [n, 3] that are `temperature` times those which the gold indices [n] are drawn from."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(n_rows, 3)) * 2
    gold = (scipy_softmax(true, axis=1).cumsum(axis=1) < rng.random((n_rows, 1))).sum(axis=1)
    return true * temperature, np.minimum(gold, 2)


def all_kinds() -> list[Calibration]:
    logits, gold = some_logits(300)
    return [
        Calibration(),
        *(Fits(logits, np.eye(logits.shape[1])[gold]).of(method) for method in ("temperature", "vector", "isotonic")),
    ]


def test_none_temperature_and_vector_are_softmax_of_their_formulas() -> None:
    scale, bias = (0.5, 1.0, 2.0), (0.1, -0.2, 0.3)
    np.testing.assert_allclose(apply(Calibration(), LOGITS), scipy_softmax(LOGITS, axis=1))
    np.testing.assert_allclose(
        apply(Calibration(method="temperature", temperature=1.7), LOGITS), scipy_softmax(LOGITS / 1.7, axis=1)
    )
    np.testing.assert_allclose(
        apply(Calibration(method="vector", scale=scale, bias=bias), LOGITS),
        scipy_softmax(LOGITS * np.array(scale) + np.array(bias), axis=1),
    )


def test_isotonic_is_scikit_learns_regression_floored_and_normalised() -> None:
    logits, gold = some_logits(400)
    fresh = some_logits(200, seed=1)[0]
    calibration = Fits(logits, np.eye(logits.shape[1])[gold]).of("isotonic")
    columns = []
    for label in range(3):
        model = IsotonicRegression(out_of_bounds="clip").fit(scipy_softmax(logits, axis=1)[:, label], gold == label)
        columns.append(model.predict(scipy_softmax(fresh, axis=1)[:, label]))
    wanted = np.maximum(np.column_stack(columns), calibration.floor)
    np.testing.assert_allclose(apply(calibration, fresh), wanted / wanted.sum(axis=1, keepdims=True), atol=1e-9)


@pytest.mark.parametrize("index", range(4))
@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0, 1e6])
def test_probabilities_are_finite_and_sum_to_one_whatever_the_size_of_the_logits(index: int, size: float) -> None:
    logits = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32) * size
    probs = apply(all_kinds()[index], logits)
    assert probs.dtype == np.float64
    assert np.isfinite(probs).all()
    assert (probs >= 0).all()
    np.testing.assert_allclose(probs.sum(axis=1), 1)


def test_isotonic_never_gives_zero_even_where_every_function_does() -> None:
    never = Knots(x=(0.0, 1.0), y=(0.0, 0.0))
    probs = apply(Calibration(method="isotonic", knots=(never,) * 3, floor=0.01), LOGITS)
    np.testing.assert_allclose(probs, 1 / 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_logit_that_is_not_finite_is_refused_by_its_row(bad: float) -> None:
    logits = LOGITS.copy()
    logits[1, 2] = bad
    with pytest.raises(BundleError, match="row 1"):
        apply(Calibration(), logits)


@pytest.mark.parametrize(
    "calibration",
    [Calibration(method="vector", scale=(1.0, 1.0), bias=(0.0, 0.0)), Calibration(method="isotonic", knots=())],
)
def test_logits_of_another_model_are_refused(calibration: Calibration) -> None:
    with pytest.raises(BundleError, match="another model"):
        apply(calibration, LOGITS)


def test_importing_the_calibration_of_the_runtime_imports_nothing_heavy() -> None:
    code = "import sys, json, hybrid.runtime.calibration; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"scipy", "sklearn", "torch", "transformers"} & set(json.loads(done.stdout))


def test_the_lower_bound_is_that_of_clopper_and_pearson() -> None:
    for n_correct, n_rows in ((0, 10), (7, 10), (10, 10), (551, 600)):
        exact = binomtest(n_correct, n_rows, alternative="greater").proportion_ci(0.9, method="exact")
        assert lower_bound(n_correct, n_rows, 0.1) == pytest.approx(exact.low)


def test_the_fewest_rows_just_support_the_target() -> None:
    for errors in range(4):
        n_rows = fewest_rows(errors, 0.9, 0.1)
        assert lower_bound(n_rows - errors, n_rows, 0.1) >= 0.9
        assert lower_bound(n_rows - 1 - errors, n_rows - 1, 0.1) < 0.9


def test_the_strictest_candidate_survives_five_errors_and_the_loosest_keeps_every_row() -> None:
    confidence = np.random.default_rng(0).random(600)
    sequence = candidates(confidence, target=0.9, delta=0.1)
    kept = [int((confidence >= value).sum()) for value in sequence]
    assert lower_bound(kept[0] - 5, kept[0], 0.1) >= 0.9
    assert kept == sorted(kept)
    assert kept[-1] == 600
    assert 20 <= len(kept) <= 40


def test_with_few_rows_the_sequence_starts_where_fewer_errors_are_survived() -> None:
    confidence = np.random.default_rng(0).random(30)
    kept = (confidence >= candidates(confidence, target=0.9, delta=0.1)[0]).sum()
    assert kept == fewest_rows(0, 0.9, 0.1) == 22
    assert candidates(confidence[:21], target=0.9, delta=0.1) == []


def test_equal_confidences_leave_the_one_candidate_that_keeps_all() -> None:
    assert candidates(np.full(600, 0.7), target=0.9, delta=0.1) == [0.7]
    everything = choose_threshold(np.full(600, 0.7), np.ones(600, dtype=bool), target=0.9, delta=0.1)
    assert (everything.kept, everything.met) == (1.0, True)


def test_the_first_failure_ends_the_sequence() -> None:
    """All rows are right but a block of wrong ones in the middle: what lies below the block is not reached."""
    confidence = np.linspace(1, 0, 2000)
    correct = np.ones(2000, dtype=bool)
    correct[200:300] = False
    found = choose_threshold(confidence, correct, target=0.9, delta=0.1)
    assert lower_bound(1900, 2000, 0.1) > 0.9
    assert 0.05 < found.kept < 0.12


def test_what_cannot_be_supported_escalates_everything_and_says_how_many_rows_would() -> None:
    rng = np.random.default_rng(0)
    found = choose_threshold(rng.random(100), np.arange(100) % 14 > 0, target=0.9, delta=0.1)
    assert not found.met
    assert found.value == NOTHING_KEPT
    assert (found.kept, found.accuracy_kept, found.lower_bound) == (0.0, None, None)
    assert found.rows_needed is not None
    assert found.rows_needed > 100
    assert f"about {found.rows_needed} rows would" in describe_threshold(found)


def test_the_rows_said_to_be_needed_are_about_enough() -> None:
    rng = np.random.default_rng(0)
    correct = np.zeros(40, dtype=bool)
    correct[rng.permutation(40)[:37]] = True
    # Every row is equally confident, so only the share of all rows can be kept, right in 92.5 %.
    found = choose_threshold(np.full(40, 0.8), correct, target=0.9, delta=0.1)
    assert found.rows_needed is not None
    supported = [
        lower_bound(n_correct, found.rows_needed, 0.1) >= 0.9
        for n_correct in rng.binomial(found.rows_needed, 0.925, size=400)
    ]
    assert 0.7 < np.mean(supported) < 0.9


def test_an_encoder_that_is_never_good_enough_is_told_that_no_number_of_rows_helps() -> None:
    correct = np.arange(400) % 2 == 0
    found = choose_threshold(np.linspace(0, 1, 400), correct, target=0.9, delta=0.1)
    assert not found.met
    assert found.rows_needed is None
    assert "more rows would not either" in describe_threshold(found)


def test_the_naive_threshold_is_the_loosest_whose_point_estimate_reaches_the_target() -> None:
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    correct = np.array([True, False, True, True, False])
    found = naive_threshold(confidence, correct, target=0.75, delta=0.1)
    assert found.value == 0.6
    assert found.accuracy_kept == 0.75
    assert naive_threshold(confidence, ~correct, target=0.9, delta=0.1).value == NOTHING_KEPT


@pytest.mark.slow
@pytest.mark.parametrize("target", [0.85, 0.9])
def test_the_promise_is_missed_at_most_delta_of_the_time_and_the_naive_one_about_half(target: float) -> None:
    """600 rows drawn from 100,000: the accuracy of what the threshold keeps there is the truth."""
    draws, delta = 200, 0.1
    logits, gold = some_logits(100_000, seed=5)
    probs = apply(Calibration(), logits)
    confidence, correct = probs.max(axis=1), probs.argmax(axis=1) == gold
    missed = {choose_threshold: 0, naive_threshold: 0}
    rng = np.random.default_rng(6)
    for _ in range(draws):
        rows = rng.choice(len(gold), 600, replace=False)
        for choose in missed:
            kept = confidence >= choose(confidence[rows], correct[rows], target=target, delta=delta).value
            missed[choose] += bool(kept.any() and correct[kept].mean() < target)
    assert missed[choose_threshold] <= binom.ppf(0.999, draws, delta)
    assert 0.3 * draws < missed[naive_threshold] < 0.7 * draws
