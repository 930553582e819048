"""The whole story by the command line: skipping, changed settings, kills, and the same tables in the end."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from hybrid.config import DataConfig, Recipe
from hybrid.files.hashing import sha256_of_file
from hybrid.files.locks import file_lock
from hybrid.pipeline.context import RunContext
from hybrid.pipeline.run import Run
from hybrid.pipeline.stages import stage_names
from hybrid.progress import Screen
from hybrid.recipe_files.read import read_recipe
from hybrid.stages.synthesize import SYNTHESIZE, try_drafts
from hybrid.types import Draft
from tests.conftest import hybrid_recipe, write_project
from tests.corpus import texts_and_gold

pytestmark = pytest.mark.slow

STAGES = stage_names(Recipe(name="x", data=DataConfig()))
TABLES = (
    "split/rows.jsonl",
    "split/gold.jsonl",
    "verify/votes.jsonl",
    "clean/decisions.jsonl",
    "synthesize/drafts.jsonl",
    "train/history.jsonl",
    "export/parity.jsonl",
    "export/model.onnx",
    "quantize/rungs.jsonl",
    "quantize/model.onnx",
    "calibrate/scored.jsonl",
    "evaluate/judged.jsonl",
    "bundle/bundle.json",
)


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished project: dishes/recipe.toml and its runs."""
    return Path(shutil.copytree(finished.parents[2], tmp_path / "project"))


def rerun(project: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return hybrid_recipe("dishes/recipe.toml", "--runs", "runs", *words, cwd=project)


def worked(said: str) -> list[str]:
    """Return the stages that did something, from the screen."""
    first_words = [line.split()[0] for line in said.splitlines() if line.startswith("  ") and " s  " in line]
    return [word for word in first_words if word in STAGES]


def test_a_finished_run_leaves_tables_reports_stamps_and_a_bundle(finished: Path) -> None:
    for stage in STAGES:
        report = json.loads((finished / stage / "report.json").read_text())
        assert report["seconds"] >= 0
        assert (finished / stage / "stamp.json").exists()
    assert {path.name for path in (finished / "bundle").iterdir()} >= {"bundle.json", "model.onnx", "tokenizer.json"}
    assert not list(finished.rglob("*.part"))
    assert not list(finished.rglob("work-*"))


def test_the_summary_holds_the_documented_keys(finished: Path) -> None:
    summary = json.loads((finished / "summary.json").read_text())
    assert 0.05 < summary["labels"]["wrong_given"] < 0.3
    assert summary["labels"]["wrong_cleaned"] == summary["labels"]["wrong_given"]  # no teacher, no change
    assert 0 <= summary["test"]["cleaned"]["accuracy"] <= 1
    assert {"ece_before", "ece_after", "ece_null95"} <= set(summary["calibration"])
    assert {"value", "target", "delta", "met", "test"} <= set(summary["threshold"])
    assert set(STAGES) == set(summary["seconds"])
    assert summary["llm"] == {"calls": 0, "cost_usd": 0, "teacher": "none", "decoder": "none", "recorded": []}
    assert isinstance(summary["cascade"], list)


def test_calibration_and_test_rows_are_judged_by_gold_and_trained_on_by_nobody(finished: Path) -> None:
    rows = [json.loads(line) for line in (finished / "split" / "rows.jsonl").open()]
    gold = {row["id"]: row["label"] for row in map(json.loads, (finished / "split" / "gold.jsonl").open())}
    judged = {row["id"]: row["gold"] for row in map(json.loads, (finished / "evaluate" / "judged.jsonl").open())}
    decided = {row["id"] for row in map(json.loads, (finished / "clean" / "decisions.jsonl").open())}
    assert judged == {row["id"]: gold[row["id"]] for row in rows if row["part"] == "test"}
    assert decided == {row["id"] for row in rows if row["part"] == "train"}
    assert any(row["label"] != gold[row["id"]] for row in rows if row["part"] == "train")


def test_nothing_changed_nothing_done(project: Path) -> None:
    done = rerun(project)
    assert done.returncode == 0, done.stderr
    assert worked(done.stdout) == []
    assert done.stdout.count("unchanged, skipped") == len(STAGES)


@pytest.mark.parametrize(
    ("setting", "first"),
    [
        ("calibrate.target=0.8", "calibrate"),
        ("evaluate.bootstrap=100", "evaluate"),
        ("export.parity_rows=8", "export"),
        ("quantize.precision=fp32", "quantize"),
    ],
)
def test_a_changed_setting_reruns_its_stage_and_what_follows_from_it_and_no_other(
    project: Path, setting: str, first: str
) -> None:
    done = rerun(project, "--set", setting)
    assert done.returncode == 0, done.stderr
    again = worked(done.stdout)
    assert again[0] == first
    assert set(again) <= set(STAGES[STAGES.index(first) :])


def test_a_run_in_bf16_ends_on_any_processor(project: Path) -> None:
    done = rerun(project, "--set", "train.precision=bf16", "--set", "train.epochs=1")
    assert done.returncode == 0, done.stderr
    # Drafts that must earn their place would be tried with the whole training.
    assert worked(done.stdout)[:2] == ["synthesize", "train"]
    assert json.loads((project / "runs/dishes/default/train/report.json").read_text())["precision"] == "bf16"
    assert (project / "runs/dishes/default/bundle/bundle.json").is_file()


def test_a_table_that_was_changed_by_hand_is_made_again(project: Path) -> None:
    table = project / "runs/dishes/default/clean/decisions.jsonl"
    wanted = sha256_of_file(table)
    table.write_text(table.read_text().replace("keep", "drop", 1))
    done = rerun(project)
    assert worked(done.stdout) == ["clean"]
    assert sha256_of_file(table) == wanted


def test_changed_data_runs_everything_again(project: Path) -> None:
    data = project / "dishes/data.csv"
    lines = data.read_text().splitlines(keepends=True)
    data.write_text("".join(lines[:-1]))
    done = rerun(project, "--set", "train.epochs=1")
    assert worked(done.stdout)[:2] == ["split", "verify"]


def tables(run: Path) -> dict[str, str]:
    return {name: sha256_of_file(run / name) for name in TABLES}


def killed_at(words: Sequence[str], cwd: Path, run: Path, sign: str) -> bool:
    """Start a run and SIGKILL it once a path like `sign` is in it; return whether the kill came in time."""
    command = [sys.executable, "-m", "hybrid.recipe", *words]
    process = subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    while process.poll() is None and not any(run.glob(sign)):
        time.sleep(0.02)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def test_killed_in_every_stage_it_ends_with_the_same_tables(finished: Path, deberta: Path, tmp_path: Path) -> None:
    write_project(tmp_path / "dishes", deberta)
    words = ("dishes/recipe.toml", "--runs", "runs")
    run = tmp_path / "runs/dishes/default"
    # Each sign appears when its stage has done something but is not finished, or just as it ends.
    signs = ("split", "split/rows.jsonl", "verify", "clean", "synthesize", "train/work-*", "export", "export/model.onnx",
             "quantize/trial.onnx", "bundle/model.onnx", "evaluate")  # fmt: skip
    kills = sum(killed_at(words, tmp_path, run, sign) for sign in signs)
    assert kills >= 9
    done = hybrid_recipe(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert tables(run) == tables(finished)


def test_killed_while_training_it_resumes_and_says_so(deberta: Path, tmp_path: Path) -> None:
    write_project(tmp_path / "dishes", deberta)
    words = ("dishes/recipe.toml", "--runs", "runs")
    run = tmp_path / "runs/dishes/default"
    assert killed_at(words, tmp_path, run, "train/work-*/checkpoint-*/trainer_state.json")
    done = hybrid_recipe(*words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "resumed at step" in done.stdout
    assert json.loads((run / "train/report.json").read_text())["resumed_from_step"] > 0


def test_drafts_are_tried_with_the_recipes_own_training_and_leave_no_folder(project: Path) -> None:
    recipe = project / "dishes" / "recipe.toml"
    folder = project / "runs" / "dishes" / "default"
    recipe_with_trial = read_recipe(recipe, overrides={"synthesize": {"use": "auto"}})
    context = RunContext(recipe_with_trial, recipe.parent, Run(folder, Screen()), project / "runs" / "traces.sqlite")
    texts, gold = texts_and_gold(600, seed=7)
    written = [
        Draft(id=f"draft/{i}", text=text, label="plain")
        for i, (text, label) in enumerate(zip(texts, gold, strict=True))
        if label == "plain"
    ]
    found = try_drafts(context.io(SYNTHESIZE, key="0" * 64), written, ["plain"])
    assert (found.drafts, found.folds, found.seeds) == (len(written), 2, 1)
    assert set(found.macro_f1) == {"nothing", "oversampling", "drafts", "class weights"}
    assert all(0 < score <= 1 for score in found.macro_f1.values())
    assert found.passed == ([] if found.refused else ["plain"])
    assert not (folder / "synthesize" / "trials").exists()


def test_two_processes_do_not_work_in_one_run(project: Path) -> None:
    with file_lock(project / "runs/dishes/default/.lock"):
        done = rerun(project)
    assert done.returncode == 2
    assert "another process works in this run" in done.stderr


def test_the_answer_of_the_bundle_is_the_answer_on_the_command_line(finished: Path) -> None:
    texts = ["The soup was awful and burnt.", "Fresh and superb bread."]
    command = [sys.executable, "-m", "hybrid", "predict", str(finished / "bundle")]
    told = subprocess.run([*command, *texts], capture_output=True, text=True, check=True).stdout
    piped = subprocess.run(command, input="\n".join(texts), capture_output=True, text=True, check=True).stdout
    assert told == piped
    rows = [msgspec.json.decode(line) for line in told.splitlines()]
    assert [row["text"] for row in rows] == texts
    assert all(row["label"] in ("bad", "good", "plain") for row in rows)
    info = subprocess.run(
        [sys.executable, "-m", "hybrid", "info", str(finished / "bundle")], capture_output=True, text=True, check=True
    )
    assert "bad, good, plain" in info.stdout
    assert "(checked)" in info.stdout
