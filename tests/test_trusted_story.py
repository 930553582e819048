"""Trusted rows in a recipe: they reach cleaning, its stamp knows their files, and nothing else of gold does."""

from pathlib import Path

import msgspec
import pytest

from hybrid.files.table import read_rows
from hybrid.pipeline.context import RunContext
from hybrid.pipeline.run import Run
from hybrid.pipeline.stages import run_stage
from hybrid.progress import Screen
from hybrid.recipe_files.read import read_recipe
from hybrid.stages.clean import CLEAN
from hybrid.stages.split import SPLIT
from hybrid.stages.verify import VERIFY
from hybrid.types import Trusted
from tests.conftest import write_project

pytestmark = pytest.mark.slow


def cleaned(project: Path, bert: Path, *, trusted: int, audit: str = "") -> RunContext:
    """Run split, verify and clean of the project's recipe."""
    overrides = {"data": {"trusted": trusted, "audit": audit}, "clean": {"folds": 2}}
    recipe = read_recipe(write_project(project, bert), overrides=overrides)
    story = RunContext(
        recipe, project, Run(project / "runs" / "dishes" / "default", Screen()), project / "runs/dishes/x.db"
    )
    for stage in (SPLIT, VERIFY, CLEAN):
        run_stage(stage, story)
    return story


def test_trusted_rows_reach_cleaning_and_new_answers_of_a_review_clean_again(bert: Path, tmp_path: Path) -> None:
    story = cleaned(tmp_path, bert, trusted=30)
    gold = {one.id: one.label for one in story.gold()}
    known = read_rows(story.run.path("clean", "trusted.jsonl"), Trusted)
    decided = {one.id: one.label for one in story.decisions()}
    assert story.run.report("clean")["trusted"] == {"gold": 30}
    assert len(known) == 30
    assert all(one.label == gold[one.id] == decided[one.id] for one in known)
    assert "clean" not in cleaned(tmp_path, bert, trusted=30).run.worked

    free = next(row for row in story.rows("train") if row.id not in {one.id for one in known})
    other = next(label for label in story.labels if label != decided[free.id])
    answer = Trusted(id=free.id, label=other, source="review")
    (tmp_path / "runs" / "dishes" / "trusted.jsonl").write_bytes(msgspec.json.encode(answer) + b"\n")
    again = cleaned(tmp_path, bert, trusted=30)
    assert again.run.worked == ["clean"]
    assert {one.id: one.label for one in again.decisions()}[free.id] == other
    assert again.run.report("clean")["trusted"] == {"gold": 30, "review": 1}


def test_an_audit_file_beside_the_recipe_is_trusted(bert: Path, tmp_path: Path) -> None:
    story = cleaned(tmp_path, bert, trusted=0)
    checked = story.rows("train")[:12]
    lines = "".join(f"{row.id},{story.labels[i % 3]}\n" for i, row in enumerate(checked))
    (tmp_path / "audit.csv").write_text(f"id,label\n{lines}", encoding="utf-8")
    found = cleaned(tmp_path, bert, trusted=0, audit="audit.csv")
    assert found.run.report("clean")["trusted"] == {"audit": 12}
    decided = {one.id: one.label for one in found.decisions()}
    assert [decided[row.id] for row in checked] == [found.labels[i % 3] for i in range(12)]
