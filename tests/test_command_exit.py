"""How commands end: a sentence and a status, the traceback in a file, and printed with --debug."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from hybrid.command_exit import exit_status, take_debug
from hybrid.errors import ConfigError, CrashError
from hybrid.pipeline.run import Run
from hybrid.progress import Screen
from hybrid.types import Report
from tests.conftest import write_project


def raised(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (ConfigError("recipe.toml: seed = -1: expected 0 or more"), 2, "error: recipe.toml: seed = -1: expected"),
        (CrashError("train: ValueError: no"), 1, "error: train: ValueError: no"),
        (ValueError("first line.\nsecond"), 1, "error: ValueError: first line; this is a fault of the program"),
        (KeyboardInterrupt(), 130, "stopped; the same command goes on from here"),
    ],
)
def test_every_end_is_one_sentence_and_a_status(
    error: BaseException, status: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status(lambda: raised(error)) == status
    said = capsys.readouterr().err
    assert said.startswith(sentence)
    assert said.count("\n") == 1
    assert "Traceback" not in said


def test_the_traceback_is_in_the_file_that_the_sentence_names(capsys: pytest.CaptureFixture[str]) -> None:
    exit_status(lambda: raised(ValueError("no")))
    named = re.search(r"the full traceback is in (\S+)", capsys.readouterr().err)
    assert named
    assert "ValueError: no" in Path(named[1]).read_text()
    assert "Traceback (most recent call last)" in Path(named[1]).read_text()


def test_where_no_file_can_be_written_the_sentence_says_how_to_see_the_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    assert exit_status(lambda: raised(ValueError("no"))) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "run it again with --debug to see the traceback" in error


def test_with_debug_the_traceback_is_printed_too(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", "--debug", "sentiment"]
    assert exit_status(lambda: raised(ValueError("no")), debug=take_debug(words)) == 1
    assert words == ["run", "sentiment"]
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_an_error_of_a_library_in_a_stage_names_the_stage_and_keeps_its_traceback_in_the_run(tmp_path: Path) -> None:
    def work() -> Report:
        raise ValueError("Your setup doesn't support this.")

    run = Run(tmp_path, Screen())
    with pytest.raises(CrashError, match=r"^train: ValueError: Your setup doesn't support this; .* finished is kept"):
        run.do("train", key="key", outputs=[], work=work, summary_line=str)
    assert "Your setup doesn't support this." in (tmp_path / "train" / "traceback.txt").read_text()
    run.do("train", key="key", outputs=[], work=dict, summary_line=str)
    assert not (tmp_path / "train" / "traceback.txt").exists()


@pytest.mark.slow
@pytest.mark.parametrize("module", ["hybrid.recipe", "hybrid", "serving"])
def test_no_command_shows_a_traceback(module: str, bert: Path, tmp_path: Path) -> None:
    recipe = write_project(tmp_path / "dishes", bert)
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "bundle.json").mkdir()
    (bert / "config.json").touch()
    words = {
        # A folder where a table should be written is no fault that any of our errors is about.
        "hybrid.recipe": [str(recipe), "--runs", str(tmp_path / "runs")],
        "hybrid": ["predict", str(bundle), "a text"],
        "serving": [str(bundle)],
    }[module]
    (tmp_path / "runs/dishes/default/split/rows.jsonl").mkdir(parents=True)
    done = subprocess.run([sys.executable, "-m", module, *words], capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert done.stderr.count("error: ") == 1
