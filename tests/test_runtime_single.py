"""One text alone: plain floats give what arrays give."""

import numpy as np
import pytest

from hybrid.runtime.calibration import Calibration, Knots, apply
from hybrid.runtime.scalar_calibration import FEW_LABELS, probs_of_one, supports

CURVE = Knots(x=(0.1, 0.4, 0.7, 0.95), y=(0.2, 0.35, 0.8, 0.9))
FLAT = Knots(x=(0.3,), y=(0.5,))
CALIBRATIONS = {
    "none": Calibration(),
    "temperature": Calibration(method="temperature", temperature=1.7),
    "vector": Calibration(method="vector", scale=(0.5, 1.2, 2.0), bias=(0.1, -0.4, 0.0)),
    "top_label": Calibration(method="top_label", scale=(0.5, 1.2, 2.0), bias=(0.1, -0.4, 0.0), knots=(CURVE,)),
    "isotonic": Calibration(method="isotonic", knots=(CURVE, FLAT, CURVE), floor=1e-4),
}


@pytest.mark.parametrize("method", CALIBRATIONS)
def test_plain_floats_give_what_arrays_give(method: str) -> None:
    calibration = CALIBRATIONS[method]
    rng = np.random.default_rng(0)
    logits = np.concatenate([rng.normal(scale=scale, size=(300, 3)) for scale in (0.01, 2, 40)] + [np.zeros((1, 3))])
    found = np.array([probs_of_one(calibration, row) for row in logits.tolist()])
    wanted = apply(calibration, logits)
    assert np.abs(found - wanted).max() < 1e-12
    assert (found.argmax(axis=1) == wanted.argmax(axis=1)).all()


def test_several_labels_a_text_and_many_labels_stay_with_arrays() -> None:
    assert supports(Calibration(), FEW_LABELS)
    assert not supports(Calibration(), FEW_LABELS + 1)
    assert not supports(Calibration(activation="sigmoid"), 3)
