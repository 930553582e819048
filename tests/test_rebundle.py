"""hybrid bundle: another precision of a finished run, without touching the run."""

import json
from pathlib import Path

import pytest

import hybrid
from hybrid.__main__ import main

pytestmark = pytest.mark.slow


def stamps(run: Path) -> dict[str, str]:
    return {str(path.relative_to(run)): path.read_text() for path in run.rglob("stamp.json")}


def test_fp32_is_always_in_reach_with_a_calibration_of_its_own(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = stamps(finished)
    assert main(["bundle", str(finished), str(tmp_path / "fp32"), "--precision", "fp32"]) == 0
    assert "fp32" in capsys.readouterr().out
    classifier = hybrid.load(tmp_path / "fp32")
    assert classifier.bundle.precision == "fp32"
    assert classifier.classify(["Superb and fresh bread at the harbour!"])[0].label in classifier.bundle.labels
    assert stamps(finished) == before
    assert (tmp_path / "fp32" / "model.onnx").read_bytes() == (finished / "export" / "model.onnx").read_bytes()


def test_a_precision_that_fails_its_gates_is_refused_and_leaves_nothing(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bundle", str(finished), str(tmp_path / "int8"), "--precision", "int8_static"]) == 2
    assert "quantize.precision = 'int8_static': " in capsys.readouterr().err
    assert not (tmp_path / "int8").exists()
    assert not list(finished.glob(".precision-*"))


@pytest.mark.parametrize(
    ("harm", "said"),
    [("no run", "not a run of a recipe"), ("target", "is there already"), ("unfinished", "not finished")],
)
def test_what_cannot_be_bundled_is_said(
    harm: str, said: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, target = finished, tmp_path / "out"
    if harm == "target":
        target.mkdir()
    elif harm == "no run":
        run = tmp_path
    else:
        run = tmp_path / "run"
        run.mkdir()
        (run / "recipe.json").write_text(json.dumps(json.loads((finished / "recipe.json").read_text())))
    assert main(["bundle", str(run), str(target)]) == 2
    assert said in capsys.readouterr().err
