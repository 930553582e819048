"""Bad input by the command line: one sentence, exit status 2, and what was finished stays."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hybrid.files.hashing import sha256_of_file
from tests.conftest import hybrid_recipe, write_project

pytestmark = pytest.mark.slow


def data(change: Callable[[list[str]], list[str]]) -> Callable[[Path], None]:
    """Return what changes the lines of data.csv."""

    def harm(folder: Path) -> None:
        path = folder / "data.csv"
        path.write_text("".join(change(path.read_text().splitlines(keepends=True))))

    return harm


def recipe(old: str, new: str) -> Callable[[Path], None]:
    """Return what changes the recipe."""

    def harm(folder: Path) -> None:
        path = folder / "recipe.toml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return harm


def latin(folder: Path) -> None:
    path = folder / "data.csv"
    path.write_bytes(path.read_text().replace("soup", "Süppchen", 1).encode("latin-1"))


BAD = {
    "a missing column": (recipe('gold = "gold"', 'gold = "truth"'), ("truth", "text, label, gold")),
    "an unknown key": (recipe("epochs", "epoch"), ("train.epoch", "unknown key", "did you mean 'epochs'")),
    "a label outside the set": (data(lambda lines: [*lines, "A new dish,tasty,good\n"]), ("data.csv:422", "tasty")),
    "labels that look alike": (
        data(lambda lines: [*lines, "A new dish,Good,good\n"]),
        ("'good'", "'Good' (1)", 'data.alike_labels = "join"'),
    ),
    "a label that no training row has": (
        data(lambda lines: [*lines, "A new dish,good,goood\n"]),
        ("'goood' (1 rows; the nearest is 'good'", "training rows"),
    ),
    "too few rows to calibrate": (
        recipe("calibration = 90", "calibration = 4"),
        ("split: 4 calibration rows", "raise split.calibration to 5"),
    ),
    "one column twice": (recipe('gold = "gold"', 'gold = "label"'), ("data.label and data.gold are both 'label'",)),
    "an empty text": (data(lambda lines: [*lines, "  ,good,good\n"]), ("data.csv:422", "empty")),
    "one class only": (
        data(lambda lines: [lines[0], *(f"dish {i},bad,bad\n" for i in range(99))]),
        ("every row is labelled 'bad'", "two classes"),
    ),
    "too few rows": (data(lambda lines: lines[:20]), ("19 rows", "30")),
    "not UTF-8": (latin, ("data.csv", "UTF-8")),
    "duplicate ids": (recipe('gold = "gold"', 'gold = "gold"\nid = "label"'), ("data.csv:", "id")),
    "no data": (recipe('"data.csv"', '"none.csv"'), ("none.csv",)),
    "sizes beyond the data": (recipe("test = 90", "test = 900"), ("990 rows", "420 rows")),
    "no such encoder": (recipe('model = "', 'model = "no/such'), ("encoder", "no/such")),
    "too many tokens": (recipe("max_length = 32", "max_length = 65"), ("encoder.max_length = 65", "at most 64 tokens")),
    "no such traces": (recipe("[split]", '[teacher]\nmodel = "recorded"\ntraces = "t.jsonl"\n[split]'), ("t.jsonl",)),
    "no such model": (
        recipe("[split]", '[teacher]\nmodel = "oracle"\n[split]'),
        ("teacher.model = 'oracle'", "expected"),
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_sentence_and_status_2(name: str, tmp_path: Path, bert: Path) -> None:
    harm, said = BAD[name]
    write_project(tmp_path / "dishes", bert)
    harm(tmp_path / "dishes")
    done = hybrid_recipe("dishes/recipe.toml", "--runs", "runs", cwd=tmp_path)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    for words in said:
        assert words in done.stderr


def test_a_run_that_fails_late_keeps_what_was_finished(finished: Path, tmp_path: Path) -> None:
    import shutil

    project = Path(shutil.copytree(finished.parents[2], tmp_path / "project"))
    tables = [path for path in (project / "runs/dishes/default/split").iterdir() if path.suffix == ".jsonl"]
    before = {path: sha256_of_file(path) for path in tables}
    done = hybrid_recipe("dishes/recipe.toml", "--runs", "runs", "--set", "calibrate.folds=91", cwd=project)
    assert done.returncode == 2
    assert before == {path: sha256_of_file(path) for path in tables}
    assert hybrid_recipe("dishes/recipe.toml", "--runs", "runs", cwd=project).returncode == 0


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, bert: Path) -> None:
    write_project(tmp_path / "dishes", bert)
    (tmp_path / "file").write_text("")
    done = hybrid_recipe("dishes/recipe.toml", "--runs", "file", cwd=tmp_path)
    assert done.returncode == 2
    assert "choose another with --runs" in done.stderr


def test_an_unknown_recipe_names_those_that_ship(tmp_path: Path) -> None:
    done = hybrid_recipe("sentimental", cwd=tmp_path)
    assert done.returncode == 2
    assert "sentiment" in done.stderr


def test_the_deberta_profile_without_the_hub_stops_with_the_alternatives(tmp_path: Path) -> None:
    done = hybrid_recipe("sentiment", "--profile", "deberta", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "embedded" in done.stderr


def test_a_bundle_changed_by_a_byte_is_refused_on_the_command_line(finished: Path, tmp_path: Path) -> None:
    import shutil

    bundle = Path(shutil.copytree(finished / "bundle", tmp_path / "bundle"))
    content = bytearray((bundle / "model.onnx").read_bytes())
    content[-1] ^= 1
    (bundle / "model.onnx").write_bytes(content)
    command = [sys.executable, "-m", "hybrid", "predict", str(bundle), "text"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "model.onnx: changed since the bundle was made" in done.stderr
