"""Calibration of several labels a text: each label's probability, its cutoff, and how sure the whole set is."""

import msgspec
import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import binom

from hybrid.calibration.label_calibrators import best_cutoffs, cross_fit_sets, fit_labels, fit_platt
from hybrid.config import CalibrateConfig
from hybrid.errors import BundleError, DataError
from hybrid.evaluation import set_metrics
from hybrid.label_sets import join_labels
from hybrid.runtime.calibration import Calibration, apply, decide, sigmoid
from hybrid.stages.calibrate import Calibrated, calibrate
from hybrid.types import Example

LABELS = ("fast", "cheap", "good", "rare")
SHIFT = np.array([0.0, -1.0, 0.5, -3.5])


def draw(
    n_rows: int, seed: int = 0, scale: float | np.ndarray = 1.0, bias: float | np.ndarray = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return logits [n, 4] that are off by scale and bias, and the labels drawn from the true ones [n, 4]."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(n_rows, 4)) * 2.5 + SHIFT
    return true * scale + bias, rng.random(true.shape) < sigmoid(true)


def rows_of(gold: np.ndarray) -> list[Example]:
    return [
        Example(id=str(i), text="x", label=join_labels(LABELS[j] for j in row.nonzero()[0]), part="calibration")
        for i, row in enumerate(gold)
    ]


def run(logits: np.ndarray, gold: np.ndarray, **config: object) -> Calibrated:
    settings = CalibrateConfig(**config)  # type: ignore[arg-type]
    return calibrate(rows_of(gold), LABELS, logits, settings, seed=0, task="multi_label")


def test_one_scale_recovers_the_one_that_the_logits_were_spoilt_with() -> None:
    assert fit_labels("temperature", *draw(10_000, scale=2.5)).temperature == pytest.approx(2.5, rel=0.05)
    assert fit_labels("temperature", *draw(10_000, scale=0.3)).temperature == pytest.approx(0.3, rel=0.05)


def test_logits_that_say_the_opposite_end_at_the_flattest_scale() -> None:
    assert fit_labels("temperature", *draw(500, scale=-1.0)).temperature == pytest.approx(20)


def test_a_scale_and_a_bias_a_label_are_recovered() -> None:
    scale, bias = np.array([2.0, 0.5, 1.0, 1.5]), np.array([1.0, -1.0, 0.0, 2.0])
    found = fit_labels("vector", *draw(20_000, scale=scale, bias=bias))
    np.testing.assert_allclose(found.scale, 1 / scale, rtol=0.1)
    np.testing.assert_allclose(found.bias, -bias / scale, atol=0.15)


def test_newton_finds_the_minimum_that_a_general_optimiser_finds() -> None:
    logits, gold = draw(300, scale=3.0, bias=-2.0)

    def loss(weights: np.ndarray, label: int) -> float:
        scaled = logits[:, label] * weights[0] + weights[1]
        prior = 0.5 * ((weights[0] - 1) ** 2 + weights[1] ** 2)
        return float(np.logaddexp(0, np.where(gold[:, label], -scaled, scaled)).sum() + prior)

    scale, bias = fit_platt(logits, gold, start=1.0)
    for label in range(4):
        wanted = minimize(loss, np.array([1.0, 0.0]), args=(label,), tol=1e-10).x
        assert (scale[label], bias[label]) == pytest.approx(wanted, abs=1e-3)


@pytest.mark.parametrize("n_positive", [0, 1, 200])
def test_a_label_that_no_row_one_row_or_every_row_has_stays_finite(n_positive: int) -> None:
    logits, gold = draw(200)
    gold[:, 3] = np.arange(200) < n_positive
    logits[:, 3] = np.where(gold[:, 3], 40.0, -40.0)  # told apart without a fault
    scale, bias = fit_platt(logits, gold, start=1.0)
    assert np.isfinite([*scale, *bias]).all()
    assert np.abs([scale[3], bias[3]]).max() < 5
    found = cross_fit_sets(logits, gold, gold.argmax(axis=1), ("temperature", "vector"), folds=5, seed=0)
    assert np.isfinite(found.probs).all()
    assert np.isfinite(found.decided.confidence).all()


def test_what_needs_nothing_gets_nothing_and_what_needs_a_scale_gets_one() -> None:
    assert run(*draw(600)).calibration.method == "none"
    assert run(*draw(600, scale=2.5)).calibration.method == "temperature"
    assert run(*draw(600, scale=2.5, bias=np.array([4.0, -4.0, 4.0, 0.0]))).calibration.method == "vector"
    assert run(*draw(600, scale=2.5), methods=("isotonic",)).calibration.method == "none"


def test_calibration_lowers_the_nll_on_fresh_rows() -> None:
    spoilt = {"scale": 2.5, "bias": np.array([3.0, -3.0, 0.0, 2.0])}
    found = run(*draw(600, **spoilt)).calibration
    logits, gold = draw(2000, seed=9, **spoilt)
    after, before = (
        set_metrics.nll_of_sets_by_row(apply(c, logits), gold).mean()
        for c in (found, Calibration(activation="sigmoid"))
    )
    assert after < 0.8 * before


def test_each_cutoff_has_the_highest_f1_that_any_has() -> None:
    rng = np.random.default_rng(2)
    probs = rng.random((150, 3)).round(2)  # with ties
    gold = rng.random((150, 3)) < probs**2
    found = best_cutoffs(probs, gold)
    for label in range(3):
        tried = [
            set_metrics.micro_f1(gold[:, [label]], probs[:, [label]] >= cutoff) for cutoff in np.linspace(0, 1, 101)
        ]
        assert set_metrics.micro_f1(gold[:, [label]], probs[:, [label]] >= found[label]) == pytest.approx(max(tried))


def test_rare_labels_share_a_cutoff_and_labels_without_rows_need_one_half() -> None:
    rng = np.random.default_rng(2)
    probs = rng.random((100, 4))
    gold = rng.random((100, 4)) < probs
    gold[:, 2:] &= rng.random((100, 2)) < 0.08
    found = best_cutoffs(probs, gold)
    assert 0 < gold[:, 2:].sum() < 20
    assert found[2] == found[3] != found[0]
    assert best_cutoffs(probs, np.zeros_like(gold)).tolist() == [0.5] * 4


def test_the_confidence_is_the_product_of_the_sides_decided_moved_by_scale_and_bias() -> None:
    probs = np.array([[0.9, 0.3, 0.6]])
    plain = decide(Calibration(activation="sigmoid", cutoffs=(0.5, 0.2, 0.7)), probs)
    assert plain.chosen.tolist() == [[True, True, False]]
    assert plain.confidence == pytest.approx([0.9 * 0.3 * 0.4])
    moved = decide(Calibration(activation="sigmoid", set_scale=0.5, set_bias=0.3), probs).confidence
    product = 0.9 * 0.7 * 0.6
    assert moved == pytest.approx(1 / (1 + np.exp(-(0.5 * np.log(product / (1 - product)) + 0.3))))


def test_a_set_that_is_certain_has_a_finite_confidence() -> None:
    found = decide(Calibration(activation="sigmoid"), np.array([[1.0, 0.0], [1.0, 1e-300]]))
    assert np.isfinite(found.confidence).all()
    assert (found.confidence > 0.999).all()


def test_labels_that_come_together_are_not_taken_for_independent() -> None:
    """Four copies of one label: the product says p^4, the truth is p."""
    rng = np.random.default_rng(0)
    true = np.repeat(rng.normal(size=(2000, 1)) * 1.5, 4, axis=1)
    gold = np.repeat(rng.random((2000, 1)) < sigmoid(true[:, :1]), 4, axis=1)
    found = run(true, gold)
    null = found.report["ece_null95"]
    assert found.report["after"]["ece"] < 1.5 * null < found.report["before"]["ece"]


def test_scored_rows_and_the_bundle_give_the_same_probabilities() -> None:
    logits, gold = draw(200, scale=2.0, bias=2.0)
    found = run(logits.astype(np.float32), gold)
    again = msgspec.json.decode(msgspec.json.encode(found.calibration), type=Calibration)
    np.testing.assert_array_equal([row.probs for row in found.scored], apply(again, logits.astype(np.float32)))
    assert found.report["threshold"]["n_rows"] == 200


def test_rows_of_another_label_and_logits_of_another_model_are_refused() -> None:
    logits, gold = draw(50)
    rows = [*rows_of(gold)[:-1], Example(id="49", text="x", label="fast|slow")]
    with pytest.raises(DataError, match="'slow'"):
        calibrate(rows, LABELS, logits, CalibrateConfig(), seed=0, task="multi_label")
    with pytest.raises(BundleError, match=r"shape \[rows, 4\], got"):
        apply(run(logits, gold).calibration, logits[:, :3])


@pytest.mark.slow
def test_the_promise_about_whole_sets_holds_with_cutoffs_fitted_on_the_same_rows() -> None:
    draws, target, delta = 60, 0.6, 0.1
    spoilt = {"scale": 2.0, "bias": np.array([1.0, 0.0, -1.0, 0.0])}
    fresh, fresh_gold = draw(20_000, seed=999, **spoilt)
    missed = kept_any = 0
    for seed in range(draws):
        found = run(*draw(300, seed, **spoilt), target=target, delta=delta)
        decided = decide(found.calibration, apply(found.calibration, fresh))
        kept = decided.confidence >= found.threshold.value
        kept_any += bool(kept.any())
        missed += bool(kept.any() and (decided.chosen == fresh_gold).all(axis=1)[kept].mean() < target)
    assert kept_any > draws / 2
    assert missed <= binom.ppf(0.999, draws, delta)
