"""A live teacher that writes drafts: what it may see, and what becomes of one that cannot write."""

import csv
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from hybrid.files.table import read_rows
from hybrid.pipeline.context import RunContext
from hybrid.pipeline.run import Run
from hybrid.pipeline.stages import run_stage
from hybrid.progress import Screen
from hybrid.recipe_files.read import read_recipe
from hybrid.stages.clean import CLEAN
from hybrid.stages.split import SPLIT
from hybrid.stages.stage import DRAFTS, ROWS
from hybrid.stages.synthesize import SYNTHESIZE
from hybrid.stages.verify import VERIFY
from hybrid.types import Draft, Example
from tests.corpus import WORDS, texts_and_gold
from tests.messages_server import MessagesServer, answer, label

pytestmark = pytest.mark.slow

RARE = "c7"
"""The name of the rare class: one that says nothing to a teacher."""
UNSEEN = "spoilt"
"""A class of which no row is known."""
WORDS_OF = {RARE if name == "plain" else name: words for name, words in WORDS.items()}
POLICY = "Ein Text gehört zu c7, wenn er das Gericht nur beschreibt."
DISHES = ("kedgeree", "borscht", "ceviche", "goulash", "paella", "risotto", "tagine", "shakshuka")
SEASONS = ("in spring", "all summer", "since autumn", "each winter", "on Monday", "by Thursday", "at Easter")
MARKS = {"calibration": "quokka", "test": "numbat"}
"""A word that every text of a part has, and no other text."""
Writer = Callable[[int], Any]
"""What the server does with the n-th request for a draft."""


def project(folder: Path, encoder: Path, url: str, labels: Sequence[str]) -> Path:
    folder.mkdir()
    texts, gold = texts_and_gold(300)
    parts = ["train"] * 200 + ["calibration"] * 50 + ["test"] * 50
    with (folder / "data.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "part"])
        for text, name, part in zip(texts, gold, parts, strict=True):
            writer.writerow([f"{text} {MARKS.get(part, '')}".strip(), RARE if name == "plain" else name, part])
    (folder / "policy.md").write_text(POLICY, encoding="utf-8")
    recipe = folder / "recipe.toml"
    recipe.write_text(
        f"""
name = "dishes"
labels = {json.dumps(labels)}
[data]
train = "data.csv"
split = "part"
[split]
near_duplicate = 0.98
[teacher]
model = "judge"
base_url = "{url}"
workers = 4
policy = "policy.md"
[synthesize]
per_class = 12
wave = 12
enough = 60
use = true
classifier_floor = 0
classifier_veto = 1
near_meaning = 1
[encoder]
model = "{encoder}"
max_length = 32
""",
        encoding="utf-8",
    )
    return recipe


class Teacher:
    """Labels by the words of the text, names attributes, and writes drafts as `writes` does."""

    def __init__(self, writes: Writer) -> None:
        self.writes = writes
        self.n_drafts = 0

    def __call__(self, handler: Any, body: dict[str, Any]) -> None:
        properties = body["output_config"]["format"]["schema"]["properties"]
        if "attributes" in properties:
            attributes = {"attributes": [{"name": "meal", "values": ["lunch", "supper"]}]}
            answer(json.dumps(attributes))(handler, body)
        elif "plan" in properties:
            self.n_drafts += 1
            self.writes(self.n_drafts)(handler, body)
        else:
            asked = re.findall(r"<(text-\w+)>\n(.*?)\n</\1>", str(body["messages"][0]["content"]), re.DOTALL)[-1][1]
            found = next((name for name, words in WORDS_OF.items() if any(word in asked for word in words)), "bad")
            label(UNSEEN if UNSEEN in asked else found)(handler, body)


def ran(
    tmp_path: Path, encoder: Path, writes: Writer, labels: Sequence[str] = ("bad", "good", RARE)
) -> tuple[Run, list[dict[str, Any]]]:
    """Run the stages to the drafts; return the run and the requests."""
    with MessagesServer(Teacher(writes)) as server:
        recipe = read_recipe(project(tmp_path / "dishes", encoder, server.url, labels))
        run = Run(tmp_path / "run", Screen())
        context = RunContext(recipe, tmp_path / "dishes", run, tmp_path / "traces.sqlite")
        for stage in (SPLIT, VERIFY, CLEAN, SYNTHESIZE):
            run_stage(stage, context)
    return run, server.bodies


def text_of(number: int) -> Any:
    first, second = WORDS["plain"][number % 8], WORDS["plain"][(number * 3 + 1) % 8]
    text = (
        f"Today {DISHES[number % 8]} number {number * 7919} came {first}, also {second}, on platter {number * 104729}."
    )
    return answer(json.dumps({"plan": "Describe it.", "text": text}))


def test_nothing_that_the_teacher_reads_or_writes_from_is_a_calibration_or_test_row(bert: Path, tmp_path: Path) -> None:
    run, bodies = ran(tmp_path, bert, text_of)
    assert run.report("synthesize")["drafts"] == 12
    kinds = {tuple(sorted(body["output_config"]["format"]["schema"]["properties"])) for body in bodies}
    assert len(kinds) == 3, "votes, attributes and drafts were asked for"
    said = json.dumps(bodies)
    assert "platter" in said, "the drafts themselves were voted on"
    for mark in MARKS.values():
        assert mark not in said
    part_of = {row.id: row.part for row in read_rows(run.path(ROWS.path), Example)}
    assert {part_of[parent] for draft in read_rows(run.path(DRAFTS.path), Draft) for parent in draft.parents} == {
        "train"
    }


def test_a_teacher_that_cannot_write_leaves_the_run_without_drafts_and_the_report_says_why(
    bert: Path, tmp_path: Path
) -> None:
    def writes(number: int) -> Any:
        if number % 2:
            return answer("", stop_reason="refusal")
        return text_of(0)

    run, _ = ran(tmp_path, bert, writes)
    report = run.report("synthesize")
    assert report["drafts"] == 12
    assert report["refused"] == {"the teacher's answer": 6, "near-copy of draft": 5}
    assert report["accepted"] == {"bad": 0, "good": 0, RARE: 1}
    assert all(draft.reason for draft in read_rows(run.path(DRAFTS.path), Draft) if draft.status != "accepted")


def test_a_class_without_a_real_row_trains_on_drafts_from_its_definition_and_the_report_says_that_nobody_judged(
    bert: Path, tmp_path: Path
) -> None:
    def writes(number: int) -> Any:
        return answer(
            json.dumps(
                {"plan": "Spoil it.", "text": f"{DISHES[number % 8]} {UNSEEN} {SEASONS[number % 7]} {number * 7919}"}
            )
        )

    run, bodies = ran(tmp_path, bert, writes, ("bad", "good", RARE, UNSEEN))
    drafts = [draft for draft in read_rows(run.path(DRAFTS.path), Draft) if draft.label == UNSEEN]
    assert drafts
    assert all(draft.parents == () for draft in drafts)
    assert run.report("synthesize")["accepted"][UNSEEN] > 0
    (verdict,) = (each for each in run.report("synthesize")["gate"]["classes"] if each["label"] == UNSEEN)
    assert (verdict["passed"], verdict["rows"]) == (True, 0)
    assert verdict["reason"].startswith(f"0 real rows of {UNSEEN} are too few to judge its drafts")
    assert any(POLICY in json.dumps(body, ensure_ascii=False) for body in bodies)
