"""The table of calibrators: what every method must hold, for arrays and for one text, whatever the logits."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.calibration import calibrators
from hybrid.calibration.averaging import refit
from hybrid.calibration.calibrators import FITS, Fits
from hybrid.calibration.label_calibrators import FROM_SIMPLE_TO_RICH
from hybrid.config import CalibrateConfig
from hybrid.errors import BundleError, ConfigError
from hybrid.recipe_files.read import read_recipe
from hybrid.runtime.calibration import (
    CALIBRATORS,
    FEW_LABELS,
    Calibration,
    Calibrator,
    Knots,
    apply,
    apply_one,
    decide,
    softmax,
)
from hybrid.runtime.decision import predict_one
from tests.serving.escalation_fixtures import BUNDLE

KEEPS_ORDER = {"none", "temperature"}
"""The methods whose probabilities are in the order of the logits."""
KEEPS_TOP = KEEPS_ORDER | {"top_label"}
"""The methods that never change the most probable label: of top_label, that of its scaled logits."""


@st.composite
def calibrations(draw: st.DrawFn, method: str, n_labels: int) -> Calibration:
    """Any calibration of a method that a fit could write."""
    factor, probability = st.floats(0.05, 20), st.floats(0, 1)

    def knots() -> Knots:
        x = sorted(draw(st.sets(probability, min_size=1, max_size=6)))
        return Knots(x=tuple(x), y=tuple(sorted(draw(st.tuples(*[probability] * len(x))))))

    if method == "average":
        weights = draw(st.lists(st.floats(0.01, 1), min_size=1, max_size=3))
        members = draw(st.tuples(*[st.sampled_from(sorted(KEEPS_TOP | {"vector", "isotonic"}))] * len(weights)))
        return Calibration(
            method=method,
            members=tuple(draw(calibrations(member, n_labels)) for member in members),
            weights=tuple(weight / sum(weights) for weight in weights),
        )
    return Calibration(
        method=method,
        temperature=draw(factor),
        scale=draw(st.tuples(*[factor] * n_labels)),
        bias=draw(st.tuples(*[st.floats(-10, 10)] * n_labels)),
        knots=tuple(knots() for _ in range(n_labels)),
        floor=draw(st.floats(1e-5, 0.1)),
    )


@st.composite
def fitted(draw: st.DrawFn) -> tuple[Calibration, list[float]]:
    """A calibration and the logits of one text."""
    n_labels = draw(st.integers(2, 6))
    calibration = draw(calibrations(draw(st.sampled_from(list(CALIBRATORS))), n_labels))
    size = draw(st.sampled_from([0.01, 5.0, 1000.0]))
    return calibration, draw(st.lists(st.floats(-size, size), min_size=n_labels, max_size=n_labels))


@settings(deadline=None, max_examples=400)
@given(fitted())
def test_every_method_gives_finite_probabilities_that_sum_to_one(case: tuple[Calibration, list[float]]) -> None:
    calibration, logits = case
    probs = apply(calibration, np.array([logits, logits[::-1]]))
    assert np.isfinite(probs).all()
    assert (probs >= 0).all()
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-12)


@settings(deadline=None, max_examples=400)
@given(fitted())
def test_one_text_gets_what_an_array_gives(case: tuple[Calibration, list[float]]) -> None:
    calibration, logits = case
    np.testing.assert_allclose(apply_one(calibration, logits), apply(calibration, np.array([logits]))[0], atol=1e-9)


def test_a_top_probability_that_falls_to_zero_leaves_an_answer() -> None:
    knots = (Knots(x=(0.5,), y=(0.0,)),)
    calibration = Calibration(method="top_label", scale=(1.0, 1.0), bias=(0.0, 0.0), knots=knots)
    certain = [1000.0, -1000.0]  # the other label's probability underflows to zero
    assert apply_one(calibration, certain) == [1.0, 0.0]
    assert apply(calibration, np.array([certain])).tolist() == [[1.0, 0.0]]


@settings(deadline=None, max_examples=300)
@given(fitted())
def test_the_order_stays_where_a_method_promises_it(case: tuple[Calibration, list[float]]) -> None:
    calibration, logits = case
    probs = apply_one(calibration, logits)
    if calibration.method in KEEPS_ORDER:
        order = np.argsort(logits, kind="stable")
        assert (np.diff(np.array(probs)[order]) >= 0).all()
    if calibration.method == "top_label":
        logits = apply_one(msgspec.structs.replace(calibration, method="vector"), logits)
    if calibration.method in KEEPS_TOP:
        assert probs[int(np.argmax(logits))] == pytest.approx(max(probs), abs=1e-12)


@settings(deadline=None, max_examples=100)
@given(data=st.data(), method=st.sampled_from([m for m, entry in CALIBRATORS.items() if entry.apply_to_sets]))
def test_several_labels_a_text_have_a_probability_each(data: st.DataObject, method: str) -> None:
    calibration = msgspec.structs.replace(data.draw(calibrations(method, 3)), activation="sigmoid")
    logits = np.array([data.draw(st.lists(st.floats(-100, 100), min_size=3, max_size=3))])
    probs = apply(calibration, logits)
    assert np.isfinite(probs).all()
    assert ((probs >= 0) & (probs <= 1)).all()
    assert (decide(calibration, probs).chosen == (probs >= 0.5)).all()


def test_many_labels_take_the_array_and_give_the_same() -> None:
    rng = np.random.default_rng(0)
    for n_labels in (FEW_LABELS, FEW_LABELS + 1):
        logits = rng.normal(size=n_labels).tolist()
        calibration = Calibration(method="vector", scale=(2.0,) * n_labels, bias=(0.5,) * n_labels)
        np.testing.assert_allclose(apply_one(calibration, logits), apply(calibration, np.array([logits]))[0])


def test_every_method_that_a_recipe_may_name_has_a_fit() -> None:
    assert [*FITS] == [method for method, entry in CALIBRATORS.items() if entry.in_recipe]
    assert set(CalibrateConfig().methods) <= set(FITS)
    assert [*FROM_SIMPLE_TO_RICH] == [method for method, entry in CALIBRATORS.items() if entry.apply_to_sets]


@pytest.mark.parametrize(("method", "activation"), [("platt", "softmax"), ("isotonic", "sigmoid")])
def test_a_calibration_that_the_table_does_not_have_is_refused(method: str, activation: str) -> None:
    with pytest.raises(ValueError, match=f"calibration method '{method}' with {activation}: expected one of none, "):
        Calibration(method=method, activation=activation)  # type: ignore[arg-type]
    with pytest.raises(msgspec.ValidationError, match="expected one of none, "):
        msgspec.json.decode(msgspec.json.encode({"method": method, "activation": activation}), type=Calibration)


@pytest.mark.parametrize(
    ("members", "weights"),
    [((), ()), ((Calibration(),), ()), ((Calibration(),), (0.5, 0.5))],
)
def test_an_average_without_a_weight_a_member_is_refused(
    members: tuple[Calibration, ...], weights: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError, match="expected a weight for each of one or more members"):
        Calibration(method="average", members=members, weights=weights)
    inner = Calibration(method="average", members=(Calibration(),), weights=(1.0,))
    with pytest.raises(ValueError, match="that are no averages"):
        Calibration(method="average", members=(inner,), weights=(1.0,))


def test_an_average_refuses_logits_of_another_model() -> None:
    vector = Calibration(method="vector", scale=(1.0,) * 3, bias=(0.0,) * 3)
    with pytest.raises(BundleError, match=r"shape \[rows, 3\], got"):
        apply(Calibration(method="average", members=(Calibration(), vector), weights=(0.5, 0.5)), np.zeros((2, 4)))


def test_refitting_keeps_the_methods_and_their_weights() -> None:
    logits = np.random.default_rng(0).normal(size=(90, 3))
    members = (Calibration(), Calibration(method="temperature", temperature=3.0))
    calibration = Calibration(method="average", members=members, weights=(0.25, 0.75))
    again = refit(calibration, logits, np.eye(3)[logits.argmax(axis=1)])
    assert [member.method for member in again.members] == ["none", "temperature"]
    assert again.weights == (0.25, 0.75)
    assert again.members[1].temperature < 1  # the labels follow the logits for certain
    assert refit(members[1], logits, np.eye(3)[logits.argmax(axis=1)]) == again.members[1]


RECIPE = """
name = "dishes"
labels = ["bad", "good"]
[data]
train = "data.csv"
[calibrate]
methods = {methods}
"""


@pytest.mark.parametrize("methods", ['["temperature", "flattened"]', "[]", '["none"]', '["average"]'])
def test_a_recipe_names_methods_of_the_table(methods: str, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(methods=methods))
    with pytest.raises(ConfigError, match=r"calibrate\.methods = .*: expected some of temperature, vector, "):
        read_recipe(path)


def test_one_entry_in_each_table_adds_a_calibrator(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Mixes every row with the uniform distribution: `floor` is how much of it."""

    def flatten(calibration: Calibration, logits: np.ndarray) -> np.ndarray:
        return (1 - calibration.floor) * softmax(logits) + calibration.floor / logits.shape[1]

    def flatten_one(calibration: Calibration, logits: list[float]) -> list[float]:
        return [float(p) for p in flatten(calibration, np.array([logits]))[0]]

    entry = Calibrator(apply=flatten, apply_one=flatten_one)  # type: ignore[arg-type]
    monkeypatch.setitem(CALIBRATORS, "flattened", entry)
    monkeypatch.setitem(calibrators.FITS, "flattened", lambda fits: Calibration(method="flattened", floor=0.3))

    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(methods='["flattened"]'))
    methods = read_recipe(path).calibrate.methods
    logits = np.random.default_rng(0).normal(size=(60, 3))
    calibration = Fits(logits, np.eye(3)[logits.argmax(axis=1)]).of(methods[0])
    manifest = msgspec.json.encode(msgspec.structs.replace(BUNDLE, calibration=calibration))
    bundle = msgspec.json.decode(manifest, type=type(BUNDLE))
    prediction = predict_one(bundle, [9.0, 0.0, 0.0])
    assert prediction.confidence == pytest.approx(0.8, abs=1e-3)
    assert sum(prediction.probs.values()) == pytest.approx(1)
