"""The wheel carries the recipes: outside the checkout the sentiment recipe runs the same."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import hybrid

CHECKOUT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as an installer lays it out, in a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--outdir", str(folder), str(CHECKOUT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    site = folder / "site"
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    return site


def test_the_wheel_has_the_version_of_the_package_and_says_that_it_is_typed(unpacked: Path) -> None:
    assert (unpacked / f"hybrid_cascade-{hybrid.__version__}.dist-info").is_dir()
    assert (unpacked / "hybrid/py.typed").is_file()
    assert (unpacked / "serving/py.typed").is_file()


def test_the_demo_and_its_recipe_are_in_the_wheel(unpacked: Path) -> None:
    for folder in ("hybrid/demo_bundle", "recipes/demo"):
        names = {path.name for path in (CHECKOUT / folder).iterdir() if path.is_file()}
        shipped = unpacked / folder if folder.startswith("hybrid") else unpacked / "hybrid" / folder
        assert {path.name for path in shipped.iterdir()} == names


def test_the_sentiment_recipe_runs_from_the_wheel(unpacked: Path, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(unpacked)}
    where = [sys.executable, "-c", "import hybrid; print(hybrid.__file__)"]
    said = subprocess.run(where, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert Path(said.strip()).is_relative_to(unpacked)
    # One epoch: what is under test is the way from data to bundle, not the encoder.
    command = [sys.executable, "-m", "hybrid.recipe", "sentiment", "--set", "train.epochs=1"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "\x1b" not in done.stdout  # no terminal, plain lines
    run = tmp_path / "runs/sentiment/embedded"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["rows"] == {"train": 2400, "calibration": 600, "test": 1200}
    assert 0.17 < summary["labels"]["wrong_given"] < 0.22
    assert summary["labels"]["wrong_cleaned"] < 0.75 * summary["labels"]["wrong_given"]
    assert summary["test"]["cleaned"]["accuracy"] > 0.65
    assert summary["llm"]["calls"] == 0
    assert summary["llm"]["recorded"] == ["teacher", "decoder"]
    escalated = {point["share"]: point["accuracy"] for point in summary["cascade"]}
    assert escalated[0.3] > escalated[0.0] + 0.02
    drafts = json.loads((run / "synthesize/report.json").read_text())
    assert drafts["drafts"] == sum(drafts["accepted"].values()) + sum(drafts["refused"].values()) == 450
    assert drafts["refused"]["parent outside train"] > 100
    assert (run / "report.html").stat().st_size > 10_000
    assert {path.name for path in (run / "bundle").iterdir()} >= {"README.md", "bundle.json", "model.onnx"}
