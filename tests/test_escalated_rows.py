"""What escalated in service comes back: as a queue for people, and with their labels as rows that train."""

import csv
import time
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sql

from hybrid.data.escalated_rows import Added, Joined, join_added
from hybrid.errors import DataError, StorageError
from hybrid.pipeline.context import RunContext
from hybrid.pipeline.run import Run
from hybrid.pipeline.stages import run_stage
from hybrid.progress import Screen
from hybrid.recipe_files.read import read_recipe
from hybrid.review.escalated import export_escalations, queue_of_escalations
from hybrid.review.escalations import Escalated, open_store, read_escalations, shown, versions, write_escalations
from hybrid.review.import_answers import read
from hybrid.stages.split import SPLIT
from hybrid.types import Example, Gold
from tests.conftest import write_project

LABELS = ("bad", "good", "plain")
ROW = Escalated(
    at=1.0,
    bundle_id="0123456789ab",
    text="The soup came late.",
    encoder_label="good",
    encoder_confidence=0.6,
    probs={"bad": 0.3, "good": 0.6, "plain": 0.1},
    outcome="answered",
    decoder="judge",
    decoder_label="bad",
    decoder_confidence=0.9,
    rationale="Late is bad.",
    answer_label="bad",
    cost_usd=0.001,
    seconds=0.4,
)


def of(text: str, **fields: object) -> Escalated:
    return msgspec.structs.replace(ROW, text=text, **fields)


def test_what_is_written_is_read_back_and_odd_texts_are_kept_as_far_as_they_can_be(tmp_path: Path) -> None:
    engine = open_store(str(tmp_path / "store.sqlite"))
    odd = of(
        "nul \x00, half a pair \ud800, 茶", outcome="failed", decoder_label=None, decoder_confidence=None, cost_usd=None
    )
    write_escalations(engine, [ROW, odd])
    engine.dispose()
    found = read_escalations(open_store(str(tmp_path / "store.sqlite")))
    assert found == [ROW, msgspec.structs.replace(odd, text="nul \ufffd, half a pair ?, 茶")]


def test_a_store_of_another_version_or_none_is_refused(tmp_path: Path) -> None:
    engine = open_store(str(tmp_path / "store.sqlite"))
    with engine.begin() as db:
        db.execute(sql.update(versions).values(version=99))
    with pytest.raises(StorageError, match="has version 99, expected 1"):
        open_store(str(tmp_path / "store.sqlite"))
    (tmp_path / "text").write_text("not a database, and longer than its header would be " * 10)
    for name in (str(tmp_path / "text"), str(tmp_path / "none" / "store"), "sqlserver://me:secret@host/db"):
        with pytest.raises(StorageError, match="cannot be opened") as refused:
            open_store(name)
        assert "secret" not in str(refused.value)


def test_the_queue_has_each_text_once_those_first_that_came_often_and_were_unsure() -> None:
    rows = [of("rare"), of("often"), of("often"), of("none", answer_label=None), of("sure", answer_label="good")]
    looks = queue_of_escalations([*rows, of("foreign", probs={"yes": 0.5, "no": 0.5})], LABELS)
    assert [look.text for look in looks] == ["often", "none", "rare", "sure"]
    assert looks[0].gain == pytest.approx(2 * 0.7)
    assert (looks[0].given, looks[0].label, looks[0].teacher_label, looks[0].reason) == (
        "good",
        "bad",
        "bad",
        "Late is bad.",
    )


def test_a_near_copy_of_a_row_that_judges_does_not_train() -> None:
    rows = [
        Example(id="1", text="The bread at the harbour was awful and stale.", label="bad", part="test"),
        Example(id="2", text="The salad at the market was superb and crisp.", label="good", part="train"),
    ]
    report = {"parts": {"train": 1, "test": 1}, "classes": {"train": {"bad": 0, "good": 1}}, "gold_rows": 1}
    dealt = Joined(rows=rows, gold=[Gold(id="1", label="bad")], report=report)
    added = [
        Added(id="escalated-1", text="the bread at the harbour was awful and stale", label="bad"),
        Added(id="escalated-2", text="The salad at the market was superb and crisp!", label="good"),
        Added(id="escalated-3", text="Nobody came to our table for an hour.", label="bad"),
    ]
    found = join_added(dealt, added, near_duplicate=0.8)
    assert [row.id for row in found.rows] == ["1", "2", "escalated-2", "escalated-3"]
    assert {row.part for row in found.rows[2:]} == {"train"}
    assert (found.report["escalated_rows"], found.report["escalated_rows_refused"]) == (2, 1)
    assert found.report["parts"] == {"train": 3, "test": 1}
    assert found.report["classes"] == {"train": {"bad": 1, "good": 2}}


@pytest.fixture
def story(tmp_path: Path) -> RunContext:
    """The story of a recipe whose rows are dealt."""
    recipe = write_project(tmp_path / "dishes", tmp_path / "encoder")
    run = Run(tmp_path / "runs" / "dishes" / "default", Screen())
    story = RunContext(read_recipe(recipe), recipe.parent, run, tmp_path / "runs" / "dishes" / "traces.sqlite")
    run_stage(SPLIT, story)
    return story


@pytest.mark.slow
def test_a_persons_labels_of_what_escalated_train_the_next_run(story: RunContext, tmp_path: Path) -> None:
    judging = next(row for row in story.rows("test"))
    engine = open_store(str(story.run.path("escalations.sqlite")))
    write_escalations(engine, [ROW, of(judging.text), of("Who knows?", at=time.time())])
    engine.dispose()
    sheet = tmp_path / "sheet.csv"
    said = export_escalations(story, "", sheet, to="csv", n_rows=10)
    assert said.lines[0].startswith("3 of 3 texts that escalated")
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.DictReader(file))
    answers = {ROW.text: "plain", judging.text: "bad"}
    with sheet.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(line | {"label": answers.get(line["text"], "")} for line in lines)
    said = read(story, sheet)
    assert said.lines[0] == "2 rows answered, 1 not yet, 0 skipped"
    assert "2 texts that escalated were added" in said.lines[1]
    before = {row.id for row in story.rows()}
    run_stage(SPLIT, story)
    new = [row for row in story.rows() if row.id not in before]
    assert [(row.text, row.label, row.part) for row in new] == [(ROW.text, "plain", "train")]
    assert story.run.report("split")["escalated_rows_refused"] == 1
    assert [(one.label, one.source) for one in story.trusted() if one.id == new[0].id] == [("plain", "review")]
    with pytest.raises(DataError, match="2 rows in it are answered"):
        export_escalations(story, "", sheet, to="csv", n_rows=10)
    again = export_escalations(story, "", tmp_path / "again.csv", to="csv", n_rows=10)
    assert again.lines[0].startswith("1 of 1 texts that escalated")


@pytest.mark.slow
def test_answers_without_their_store_are_refused(story: RunContext, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("id,label\nescalated-0000000000000000,bad\n")
    with pytest.raises(DataError, match="no such store"):
        read(story, sheet)
    open_store(str(story.run.path("escalations.sqlite"))).dispose()
    with pytest.raises(DataError, match="no such text in the store"):
        read(story, sheet)
    assert not story.shared_file("escalated").exists()


@pytest.mark.parametrize("password", ["s3cret", "s/cret", "s#cret", "s?cret"])
def test_a_store_is_named_without_its_password_whatever_is_in_it(password: str) -> None:
    assert shown(f"postgresql://cook:{password}@here:5432/dishes") == "postgresql://here:5432/dishes"
    assert shown("runs/escalations.sqlite") == "runs/escalations.sqlite"


def test_a_reason_that_an_earlier_version_stored_is_read_without_the_password_of_its_url(tmp_path: Path) -> None:
    engine = open_store(str(tmp_path / "escalations.sqlite"))
    write_escalations(engine, [msgspec.structs.replace(ROW, reason="http://cook:s3cret@here/v1: status 500: no")])
    assert [row.reason for row in read_escalations(engine)] == ["http://here/v1: status 500: no"]
