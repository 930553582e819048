"""The stage: which method it takes, that its figures are honest, and that its promise holds."""

import msgspec
import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import binom

from hybrid.calibration.averaging import cross_fit, out_of_sample, stacking_weights
from hybrid.calibration.calibrators import Fits
from hybrid.config import CalibrateConfig
from hybrid.errors import BundleError, DataError
from hybrid.evaluation import metrics
from hybrid.runtime.calibration import Calibration, apply
from hybrid.stages.calibrate import Calibrated, calibrate
from hybrid.types import Example

LABELS = ("negative", "neutral", "positive")
METHODS = ("temperature", "vector", "isotonic")
CONFIG = CalibrateConfig()


def draw(
    n_rows: int, seed: int = 0, temperature: float = 1.0, bias: tuple[float, ...] = (0.0, 0.0, 0.0)
) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits [n, 3] of an encoder that is wrong by a temperature and a bias, and gold indices [n]."""
    rng = np.random.default_rng(seed)
    true = rng.normal(size=(n_rows, 3)) * 2.4
    gold = (softmax(true, axis=1).cumsum(axis=1) < rng.random((n_rows, 1))).sum(axis=1)
    return true * temperature + np.array(bias), np.minimum(gold, 2)


def one_hot(gold: np.ndarray, n_labels: int = 3) -> np.ndarray:
    return np.eye(n_labels)[gold]


def run(logits: np.ndarray, gold: np.ndarray, config: CalibrateConfig = CONFIG) -> Calibrated:
    rows = [Example(id=str(i), text="x", label=LABELS[label], part="calibration") for i, label in enumerate(gold)]
    return calibrate(rows, LABELS, logits, config, seed=0)


def test_temperature_recovers_the_one_that_the_logits_were_spoilt_with() -> None:
    logits, gold = draw(20_000, temperature=2.5)
    assert Fits(logits, one_hot(gold)).of("temperature").temperature == pytest.approx(2.5, rel=0.05)


def test_vector_scaling_recovers_scale_and_bias() -> None:
    logits, gold = draw(20_000, temperature=2.0, bias=(1.0, 0.0, -1.0))
    found = Fits(logits, one_hot(gold)).of("vector")
    np.testing.assert_allclose(found.scale, 0.5, atol=0.05)
    np.testing.assert_allclose(np.array(found.bias) - found.bias[1], [-0.5, 0, 0.5], atol=0.1)


def test_a_model_that_lacks_only_a_temperature_is_served_as_well_as_with_just_that() -> None:
    logits, gold = draw(600, temperature=2.5)
    fresh, fresh_gold = draw(5000, seed=9, temperature=2.5)
    found = run(logits, gold)
    just_that = apply(Fits(logits, one_hot(gold)).of("temperature"), fresh)
    assert metrics.nll(apply(found.calibration, fresh), fresh_gold) < metrics.nll(just_that, fresh_gold) + 0.004
    assert set(found.report["cv_nll"]) == {"none", *CONFIG.methods, "average"}
    assert sum(found.report["weights"].values()) == pytest.approx(1)
    assert found.report["weights"].get("none", 0) < 0.2


def test_a_model_biased_between_the_classes_gets_what_moves_the_classes() -> None:
    logits, gold = draw(600, temperature=2.0, bias=(3.0, 0.0, -3.0))
    weights = run(logits, gold).report["weights"]
    assert weights.get("vector", 0) + weights.get("top_label", 0) > 0.9


def test_a_model_that_is_calibrated_already_loses_little_in_any_draw() -> None:
    fresh, fresh_gold = draw(20_000, seed=99)
    before = metrics.nll(apply(Calibration(), fresh), fresh_gold)
    lost = [metrics.nll(apply(run(*draw(600, seed)).calibration, fresh), fresh_gold) - before for seed in range(20)]
    assert max(lost) < 0.005


def test_the_average_is_about_as_likely_as_the_best_of_its_members() -> None:
    logits, gold = draw(400, temperature=1.7, bias=(0.5, 0.0, 0.0))
    nll = run(logits, gold).report["cv_nll"]
    assert nll["average"] <= min(nll.values()) + 0.003


def test_the_weights_are_those_of_the_highest_likelihood() -> None:
    probs = {"sure": np.array([[0.9, 0.1]] * 10), "unsure": np.array([[0.4, 0.6]] * 10)}
    weights = stacking_weights(probs, one_hot(np.array([0] * 7 + [1] * 3), 2))
    # 0.9 w + 0.4 (1 - w) is the share of the first label, 0.7.
    assert weights == pytest.approx({"sure": 0.6, "unsure": 0.4}, abs=1e-3)


def test_a_model_whose_confidence_is_a_step_gets_isotonic_regression() -> None:
    """The sign of the logit tells all: no line through the logits straightens that, a monotone function does."""
    rng = np.random.default_rng(1)
    logits = np.column_stack([rng.normal(size=3000) ** 3 * 10, np.zeros(3000)])
    gold = (rng.random(3000) < np.where(logits[:, 0] < 0, 0.7, 0.3)).astype(np.int64)
    assert cross_fit(logits, one_hot(gold, 2), METHODS, folds=5, seed=0).weights["isotonic"] > 0.9


def test_only_the_methods_of_the_recipe_are_tried() -> None:
    logits, gold = draw(300)
    found = run(logits, gold, CalibrateConfig(methods=("isotonic",)))
    assert set(found.report["weights"]) <= {"none", "isotonic"}
    assert list(found.report["cv_nll"]) == ["none", "isotonic", "average"]


def test_calibration_lowers_the_nll_of_an_overconfident_model_on_fresh_rows() -> None:
    logits, gold = draw(600, temperature=2.5)
    fresh_logits, fresh_gold = draw(1200, seed=9, temperature=2.5)
    found = run(logits, gold)
    after = apply(found.calibration, fresh_logits)
    assert metrics.nll(after, fresh_gold) < metrics.nll(apply(Calibration(), fresh_logits), fresh_gold)
    assert metrics.ece(after, fresh_gold) <= metrics.ece_null(after).p95
    assert found.report["after"]["nll"] < found.report["before"]["nll"]


def test_the_figures_called_after_come_from_fits_that_did_not_see_the_row() -> None:
    logits, gold = draw(150)
    fitted = cross_fit(logits, one_hot(gold), ("isotonic",), folds=5, seed=0)
    in_sample = metrics.nll(apply(fitted.calibration, logits), gold)
    found = run(logits, gold, CalibrateConfig(methods=("isotonic",)))
    assert found.report["after"]["nll"] == pytest.approx(metrics.nll(fitted.probs, gold))
    assert found.report["after"]["nll"] > in_sample


def test_changing_one_rows_label_leaves_its_own_held_out_probabilities_alone() -> None:
    """The label moves the fits of the other folds, never the one that judges its own row."""
    logits, gold = draw(60)
    fitted = out_of_sample(logits, one_hot(gold), ("temperature",), folds=60, seed=0)["temperature"]
    changed = gold.copy()
    changed[7] = (changed[7] + 1) % 3
    # With a row a fold, the folds are the same rows whatever the labels.
    again = out_of_sample(logits, one_hot(changed), ("temperature",), folds=60, seed=0)["temperature"]
    np.testing.assert_array_equal(fitted[7], again[7])
    assert not np.array_equal(fitted[8], again[8])


def test_scored_rows_carry_the_probabilities_that_the_bundle_will_give() -> None:
    logits, gold = draw(300)
    found = run(logits.astype(np.float32), gold)
    np.testing.assert_array_equal([row.probs for row in found.scored], apply(found.calibration, logits.astype("f4")))
    assert [row.id for row in found.scored] == [str(i) for i in range(300)]
    assert [row.label for row in found.scored] == [LABELS[label] for label in gold]


def test_calibration_and_threshold_survive_the_bundle_to_the_last_digit() -> None:
    logits, gold = draw(300)
    for method in METHODS:
        calibration = Fits(logits, one_hot(gold)).of(method)
        again = msgspec.json.decode(msgspec.json.encode(calibration), type=Calibration)
        np.testing.assert_array_equal(apply(again, logits), apply(calibration, logits))


def test_the_same_seed_gives_the_same_report_that_json_can_hold() -> None:
    logits, gold = draw(300)
    assert msgspec.json.encode(run(logits, gold).report) == msgspec.json.encode(run(logits, gold).report)


def test_a_class_with_a_single_row_does_not_stop_the_stage() -> None:
    logits, gold = draw(200)
    gold = np.where(gold == 1, 0, gold)
    gold[3] = 1
    for method in METHODS:
        probs = cross_fit(logits, one_hot(gold), (method,), folds=5, seed=0).probs
        assert np.isfinite(probs).all()


@pytest.mark.parametrize(
    ("label", "shape", "said"),
    [("odd", (20, 3), "'odd'"), ("neutral", (19, 3), r"\(19, 3\)"), ("neutral", (20, 2), r"\(20, 2\)")],
)
def test_rows_and_logits_that_do_not_match_are_refused(label: str, shape: tuple[int, int], said: str) -> None:
    rows = [Example(id=str(i), text="x", label=label) for i in range(20)]
    with pytest.raises(DataError, match=said):
        calibrate(rows, LABELS, np.zeros(shape), CalibrateConfig(), seed=0)


def test_fewer_rows_than_folds_are_refused() -> None:
    with pytest.raises(DataError, match="folds"):
        run(*draw(4))


def test_a_logit_that_is_not_finite_stops_the_stage() -> None:
    logits, gold = draw(50)
    logits[20, 1] = np.nan
    with pytest.raises(BundleError, match="row 20"):
        run(logits, gold)


@pytest.mark.slow
@pytest.mark.parametrize("methods", [METHODS, ("isotonic",)])
def test_the_promise_holds_with_the_calibration_fitted_on_the_same_rows(methods: tuple[str, ...]) -> None:
    """400 rows calibrate and set the threshold; the accuracy of what it keeps of 50,000 others is the truth."""
    draws, config = 100, CalibrateConfig(methods=methods)
    fresh, fresh_gold = draw(50_000, seed=999, temperature=2.0, bias=(1.0, 0.0, 0.0))
    missed = 0
    for seed in range(draws):
        found = run(*draw(400, seed, temperature=2.0, bias=(1.0, 0.0, 0.0)), config)
        probs = apply(found.calibration, fresh)
        kept = probs.max(axis=1) >= found.threshold.value
        missed += bool(kept.any() and (probs.argmax(axis=1) == fresh_gold)[kept].mean() < config.target)
    assert missed <= binom.ppf(0.999, draws, config.delta)


def test_confidences_crowded_under_a_ceiling_are_spread_by_the_top_label_function() -> None:
    rng = np.random.default_rng(5)
    quality = rng.random(3000)
    right = rng.random(3000) < 0.4 + 0.6 * quality
    gold = rng.integers(3, size=3000)
    answer = np.where(right, gold, (gold + 1) % 3)
    margin = 2.5 + 0.8 * quality  # nearly one confidence for all, in the right order
    logits = np.eye(3)[answer] * margin[:, None]
    fitted, half = {}, 1500
    for method in ("temperature", "top_label"):
        probs = apply(Fits(logits[:half], one_hot(gold[:half])).of(method), logits[half:])
        assert (probs.argmax(axis=1) == answer[half:]).mean() > 0.99
        assert probs.sum(axis=1) == pytest.approx(1)
        fitted[method] = metrics.nll(probs, gold[half:])
    assert fitted["top_label"] < fitted["temperature"] - 0.02
