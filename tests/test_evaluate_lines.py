"""What evaluate prints, and the scores of the fp32 graph that it puts beside those of the bundle."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from hybrid.runtime.calibration import Calibration
from hybrid.runtime.text_encoder import TextLimits
from hybrid.stages.evaluate import EVALUATE, _scores_in_fp32
from hybrid.stages.stage import StageIO
from hybrid.types import Example


def report(answered: int) -> dict[str, Any]:
    return {"encoder": {"accuracy": 0.9, "macro_f1": 0.8}, "threshold": {"accuracy": 0.95, "answered": answered}}


def test_the_line_has_a_score_with_escalation_only_where_a_decoder_answered() -> None:
    assert EVALUATE.summary_line(report(0)) == "accuracy 0.900, macro-F1 0.800"
    assert EVALUATE.summary_line(report(3)) == "accuracy 0.900, macro-F1 0.800; with escalation 0.950"


def test_the_fp32_graph_is_judged_with_the_calibration_of_the_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    calibration = Calibration(method="vector", scale=(1.0, 1.0), bias=(0.0, 5.0))
    bundle = SimpleNamespace(bundle=SimpleNamespace(calibration=calibration))
    encoder = SimpleNamespace(logits=lambda texts: np.array([[2.0, 0.0]] * len(texts)))
    monkeypatch.setattr("hybrid.runtime.load", lambda _: bundle)
    monkeypatch.setattr("hybrid.runtime.encoder.Encoder", lambda *_, **__: encoder)
    io = SimpleNamespace(
        recipe=SimpleNamespace(task="single_label"),
        labels=("bad", "good"),
        limits=TextLimits(max_length=32),
        input_folder=Path,
    )
    rows = [Example(id=str(number), text="Soup.", label="good") for number in range(4)]
    scores = _scores_in_fp32(cast(StageIO, io), rows)
    assert scores is not None
    assert scores["accuracy"] == 1.0, "the bias of the calibration makes every answer the second label"
