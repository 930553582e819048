"""The review queue: looks in the order of what they are worth, out to three tools and back as trusted rows."""

import argparse
import csv
import json
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybrid.__main__ import main
from hybrid.commands.open_run import open_run
from hybrid.commands.review import add_arguments
from hybrid.data.trusted import draw_trusted, sample_order, trusted_rows
from hybrid.errors import DataError
from hybrid.files.spreadsheet_cells import guard, unguard
from hybrid.files.table import write_rows
from hybrid.review.answer_files import Entries
from hybrid.review.answers import Answer, AnswerFile, ReviewItem, agree, key_of
from hybrid.review.argilla import write_records
from hybrid.review.csv_form import write_sheet
from hybrid.review.gain import blend_stated_confidence, expected_gains
from hybrid.review.label_studio import write_tasks
from hybrid.review.queue import review_queue
from hybrid.review.targets import TARGETS, AnswerForm, ReviewTarget, read_answers, write_items
from hybrid.types import Decision, Example, Gold, Trusted, Vote

LABELS = ("bad", "good")
LOOKS = [
    ReviewItem(
        id="a/1",
        text='She said: "fine, I guess"\nand left <b>',
        given="good",
        label="bad",
        belief=0.6,
        gain=0.5,
        teacher="judge#0",
        teacher_label="bad",
        teacher_confidence=0.7,
        reason="A shrug.",
    ),
    ReviewItem(id="a/2", text="=1+1 ünïcode", given="good", label="good", belief=0.9, gain=0.1),
]


def decision(row_id: str, label: str, *probs: float, given: str = "good") -> Decision:
    return Decision(id=row_id, action="keep", given=given, label=label, weight=1.0, probs=probs, reason="r")


def vote(row_id: str, label: str | None, confidence: float | None) -> Vote:
    return Vote(id=row_id, status="ok" if label else "failed", label=label, confidence=confidence, teacher="t")


def one_hot(n: int) -> np.ndarray:
    return np.eye(n, dtype=np.float32)


def test_what_a_vote_states_of_itself_is_half_of_the_belief_where_it_states_anything() -> None:
    probs = np.array([[0.2, 0.8], [0.2, 0.8]])
    votes = [vote("1", "bad", 0.9), vote("1", "bad", 0.7), vote("2", "bad", None), vote("2", None, None)]
    found = blend_stated_confidence(probs, ["1", "2"], votes, LABELS)
    assert found == pytest.approx(np.array([[0.5, 0.5], [0.2, 0.8]]))


def test_the_gain_without_company_is_the_probability_of_an_error_weighed_by_the_class() -> None:
    belief = np.array([[0.4, 0.6], [0.1, 0.9], [0.2, 0.8], [0.7, 0.3]])
    found = expected_gains(belief, np.array([1, 1, 1, 0]), np.zeros(4, dtype=bool), one_hot(4))
    assert found.correlation == 0
    assert found.wrong == pytest.approx([0.4, 0.1, 0.2, 0.3])
    assert found.gain == pytest.approx([0.4 * 4 / 6, 0.1 * 4 / 6, 0.2 * 4 / 6, 0.3 * 4 / 2])


def test_errors_that_keep_company_make_a_look_among_them_worth_more_than_one_alone() -> None:
    rng = np.random.default_rng(0)
    # Two clusters; in the first everything is disputed, in the second nothing but one lonely row.
    centres = np.repeat(np.eye(2), 30, axis=0)
    embeddings = centres + rng.normal(0, 0.01, (60, 2))
    disagree = np.arange(60) < 30
    disagree[59] = True
    belief = np.where(disagree[:, None], [[0.4, 0.6]], [[0.05, 0.95]])
    found = expected_gains(belief, np.ones(60, dtype=int), disagree, embeddings)
    assert found.correlation > 0.5
    assert found.wrong[0] == found.wrong[59]
    assert found.gain[:30].min() > 1.5 * found.gain[59]


def test_the_queue_leaves_out_what_is_trusted_and_shows_the_teachers_reason() -> None:
    rows = [Example(id=str(i), text=f"t{i}", label="good") for i in range(4)]
    decisions = [decision(row.id, "good", p, 1 - p) for row, p in zip(rows, (0.1, 0.45, 0.3, 0.2), strict=True)]
    said = vote("1", "bad", 0.6)
    belief = np.array([decision.probs for decision in decisions])
    looks = review_queue(rows, decisions, [said], one_hot(4), belief, LABELS, known={"2"})
    assert [look.id for look in looks] == ["1", "3", "0"]
    assert (looks[0].teacher, looks[0].teacher_label, looks[1].teacher) == ("t#0", "bad", "")


def test_the_queue_says_why_it_picked_a_row_and_where_it_is() -> None:
    # Two clusters: in the first every label is disputed, in the second none; one row more is alone in its class.
    embeddings = np.repeat(np.eye(3), [15, 15, 1], axis=0) + np.random.default_rng(0).normal(0, 0.01, (31, 3))
    probs = [(0.45, 0.55)] * 15 + [(0.05, 0.95)] * 15 + [(0.7, 0.3)]
    labels = ["good"] * 30 + ["bad"]
    rows = [Example(id=str(i), text=f"t{i}", label="good", where=f"rows.csv:{i + 2}") for i in range(31)]
    decisions = [decision(row.id, label, *p) for row, label, p in zip(rows, labels, probs, strict=True)]
    votes = [vote(str(i), "bad", 0.6) for i in range(15)]
    looks = {look.id: look for look in review_queue(rows, decisions, votes, embeddings, np.array(probs), LABELS)}
    assert looks["0"].why == (
        "good is wrong with probability 45%, most likely bad (45%); given good, t#0 says bad; "
        "rows like it are in doubt in the same way"
    )
    assert looks["20"].why == "good is wrong with probability 5%, most likely bad (5%)"
    assert looks["30"].why == (
        "bad is wrong with probability 30%, most likely good (30%); given good; bad is rare: its rows count 15.5 times"
    )
    assert looks["0"].where == "rows.csv:2"


def test_of_one_persons_answers_the_last_counts_and_people_who_differ_are_a_conflict() -> None:
    agreed = agree(
        [
            Answer(id="1", label="good", who="ann", when="2026-02"),
            Answer(id="1", label="bad", who="ann", when="2026-01"),
            Answer(id="2", label="bad", who="ann"),
            Answer(id="2", label="good", who="bob"),
            Answer(id="3", label="bad", who="ann"),
            Answer(id="3", label="bad", who="bob"),
        ]
    )
    assert agreed.labels == {"1": "good", "3": "bad"}
    assert agreed.conflicts == {"2": ("bad", "good")}


def exported(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def annotated(label: str | None, who: object = 1, when: str = "2026-01-01", *, cancelled: bool = False) -> Any:
    choice = {"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [label]}}
    return {
        "id": 7,
        "result": [choice] if label else [],
        "was_cancelled": cancelled,
        "completed_by": who,
        "updated_at": when,
    }


def test_label_studio_gets_tasks_with_predictions_and_an_interface_that_fits_them(tmp_path: Path) -> None:
    labels = ("bad", 'so "so" & <so>')
    write_tasks(LOOKS, labels, tmp_path / "tasks.json")
    first, second = exported(tmp_path / "tasks.json")
    assert first["data"]["text"] == LOOKS[0].text
    assert first["data"]["reason"] == "A shrug."
    assert [(p["model_version"], p["score"]) for p in first["predictions"]] == [("decided", 0.6), ("judge#0", 0.7)]
    assert [len(task["predictions"]) for task in (first, second)] == [2, 1]
    view = ElementTree.fromstring((tmp_path / "tasks.xml").read_text())
    assert [choice.get("value") for choice in view.iter("Choice")] == list(labels)
    named = {tag.get("name") for tag in view.iter() if tag.get("name")}
    result = first["predictions"][0]["result"][0]
    assert {result["from_name"], result["to_name"]} <= named
    shown = {(tag.get("value") or "").removeprefix("$") for tag in view.iter("Text")}
    assert shown <= set(first["data"])


def test_label_studios_export_is_read_back(tmp_path: Path) -> None:
    write_tasks(LOOKS, LABELS, tmp_path / "tasks.json")
    tasks = exported(tmp_path / "tasks.json")
    tasks[0] |= {
        "id": 1,
        "annotations": [annotated("good", {"id": 3, "email": "a@b"}), annotated("bad", cancelled=True)],
    }
    tasks[1] |= {"id": 2, "annotations": [annotated(None)]}
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    found = read_answers(tmp_path / "tasks.json")
    assert found.answers == [
        Answer(id="a/1", label="good", who="a@b", when="2026-01-01", text_key=key_of(LOOKS[0].text))
    ]
    assert found.unanswered == 1


def test_argilla_records_come_back_as_answers(tmp_path: Path) -> None:
    write_records(LOOKS, LABELS, tmp_path / "records.json")
    records = exported(tmp_path / "records.json")
    assert set(records[0]) == {"id", "fields", "metadata", "suggestions", "responses", "vectors"}
    assert records[0]["suggestions"]["label"] == {"value": "bad", "score": 0.6, "agent": "decided"}
    records[0]["responses"] = {"label": [{"value": "good", "user_id": "u1", "status": "submitted"}]}
    records[1]["responses"] = {"label": [{"value": "good", "user_id": "u1", "status": "draft"}]}
    (tmp_path / "records.json").write_text(json.dumps(records))
    found = read_answers(tmp_path / "records.json")
    assert found.answers == [Answer(id="a/1", label="good", who="u1", text_key=key_of(LOOKS[0].text))]
    assert found.unanswered == 1


def test_a_sheet_keeps_texts_of_several_lines_and_comes_back_filled_in(tmp_path: Path) -> None:
    write_sheet(LOOKS, LABELS, tmp_path / "looks.csv")
    with (tmp_path / "looks.csv").open(encoding="utf-8-sig", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["text"] for line in lines] == [LOOKS[0].text, f"'{LOOKS[1].text}"]
    assert read_answers(tmp_path / "looks.csv").unanswered == 2
    filled = (tmp_path / "looks.csv").read_text(encoding="utf-8-sig").rstrip("\r\n") + "good\r\n"
    (tmp_path / "looks.csv").write_text(filled, encoding="utf-8")
    found = read_answers(tmp_path / "looks.csv")
    assert [(answer.id, answer.label, answer.text_key) for answer in found.answers] == [
        ("a/2", "good", key_of(LOOKS[1].text))
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            '[{"text": "t", "label": "good", "annotator": 1}]',
            "the fields text, label, annotator; expected Label Studio",
        ),
        ("[]", "no rows in it"),
        ('"good"', "no list of tasks or records"),
        ("[{", "cannot be read"),
    ],
)
def test_a_file_of_another_form_is_refused(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(DataError, match=said):
        read_answers(path)


FORMULAS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "'=1", "''-2", "'quoted'", "it's", "")


@pytest.mark.parametrize("text", FORMULAS)
def test_a_spreadsheet_runs_no_cell_and_the_text_comes_back(text: str) -> None:
    cell = guard(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert unguard(cell) == text


def test_no_cell_of_a_sheet_is_a_formula_and_labels_come_back(tmp_path: Path) -> None:
    labels = ("-1", "=good")
    item = ReviewItem(
        id="-5", text="=2+3", given="-1", label="=good", belief=0.5, gain=0.5, teacher_label="-1", reason="@x"
    )
    write_sheet([item], labels, tmp_path / "sheet.csv")
    with (tmp_path / "sheet.csv").open(encoding="utf-8-sig", newline="") as file:
        head, line = csv.reader(file)
    assert not [cell for cell in line if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    for typed in ("=good", "'=good"):
        with (tmp_path / "sheet.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([head, [*line[:-1], typed]])
        assert read_answers(tmp_path / "sheet.csv").answers == [
            Answer(id="-5", label="=good", who="line 2", text_key=key_of("=2+3"))
        ]


def answered_sheet(path: Path) -> None:
    write_sheet(LOOKS, LABELS, path)
    path.write_text(path.read_text(encoding="utf-8-sig").rstrip("\r\n") + "good\r\n", encoding="utf-8")


def answered_tasks(path: Path) -> None:
    write_tasks(LOOKS, LABELS, path)
    tasks = exported(path)
    tasks[0]["annotations"] = [annotated("good", cancelled=True)]
    path.write_text(json.dumps(tasks))


def answered_records(path: Path) -> None:
    write_records(LOOKS, LABELS, path)
    records = exported(path)
    records[0]["responses"] = {"label": [{"value": "good", "user_id": "u"}]}
    path.write_text(json.dumps(records))


def changed_sheet(path: Path) -> None:
    path.write_text("id,text,label,notes\n1,soup,,ask Ann\n")


@pytest.mark.parametrize(
    ("tool", "write", "said"),
    [
        ("csv", answered_sheet, "1 rows in it are answered; read them with hybrid review read"),
        ("label-studio", answered_tasks, "1 rows in it are answered"),
        ("argilla", answered_records, "this file is there already"),
        ("csv", changed_sheet, "this file was changed since it was exported"),
        (
            "csv",
            lambda path: path.write_text("text,gold\nsoup,good\n"),
            "is no review export without answers; choose another name",
        ),
        (
            "label-studio",
            lambda path: path.write_text("my notes"),
            "is no review export without answers; choose another name",
        ),
        ("label-studio", lambda path: path.with_suffix(".xml").write_text("<View/>"), "sheet.xml: this file is there"),
    ],
)
def test_an_export_writes_over_nobodys_work(
    tool: str, write: Callable[[Path], object], said: str, tmp_path: Path
) -> None:
    path = tmp_path / ("sheet.csv" if tool == "csv" else "sheet.json")
    write(path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(DataError, match=said):
        write_items(LOOKS[:1], LABELS, path, to=tool)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("tool", list(TARGETS))
def test_an_export_without_answers_is_written_again(tool: str, tmp_path: Path) -> None:
    path = tmp_path / ("sheet.csv" if tool == "csv" else "sheet.json")
    write_items(LOOKS, LABELS, path, to=tool)
    said = write_items(LOOKS[:1], LABELS, path, to=tool)
    assert "was there before, without an answer in it" in said[0]
    assert read_answers(path).unanswered == 1


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run with its project around it."""
    return Path(shutil.copytree(finished.parents[2], tmp_path / "project")) / "runs/dishes/default"


def answers_of(run: Path, path: Path, tool: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Export eight rows for a tool, answer them as gold says, and return their ids."""
    assert main(["review", "export", str(run), str(path), "--to", tool, "--rows", "8"]) == 0
    assert "8 rows written" in capsys.readouterr().out
    return answer_as_gold(run, path, tool)


def answer_as_gold(run: Path, path: Path, tool: str) -> list[str]:
    """Answer an exported file as gold says, and return the ids of its rows."""
    gold = {row["id"]: row["label"] for row in map(json.loads, (run / "split/gold.jsonl").open())}
    if tool == "csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.DictReader(file))
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(lines[0]))
            writer.writeheader()
            writer.writerows(line | {"label": gold[line["id"]]} for line in lines)
        return [line["id"] for line in lines]
    entries = exported(path)
    for entry in entries:
        if tool == "label-studio":
            entry["annotations"] = [annotated(gold[entry["data"]["row_id"]])]
        else:
            entry["responses"] = {"label": [{"value": gold[entry["id"]], "user_id": "u", "status": "submitted"}]}
    path.write_text(json.dumps(entries))
    return [entry["data"]["row_id"] if tool == "label-studio" else entry["id"] for entry in entries]


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["csv", "label-studio", "argilla"])
def test_answers_become_trusted_rows_and_leave_the_queue(
    tool: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / ("looks.csv" if tool == "csv" else "looks.json")
    first = answers_of(run, path, tool, capsys)
    assert main(["review", "read", str(run), str(path)]) == 0
    said = capsys.readouterr().out
    assert "8 rows answered, 0 not yet, 0 skipped" in said
    assert "8 trusted rows in" in said
    trusted = [json.loads(line) for line in (run.parent / "trusted.jsonl").open()]
    gold = {row["id"]: row["label"] for row in map(json.loads, (run / "split/gold.jsonl").open())}
    assert sorted((row["id"], row["label"], row["source"]) for row in trusted) == sorted(
        (row_id, gold[row_id], "review") for row_id in first
    )
    second = answers_of(run, tmp_path / f"more-{path.name}", tool, capsys)
    assert not set(first) & set(second)


@pytest.mark.slow
def test_a_second_answer_replaces_the_first_and_a_conflict_is_not_taken(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [json.loads(line)["id"] for line in (run / "clean/decisions.jsonl").open()][:2]
    path = tmp_path / "answers.csv"
    path.write_text(f"id,label\n{ids[0]},bad\n")
    assert main(["review", "read", str(run), str(path)]) == 0
    path.write_text(f"id,label\n{ids[0]},good\n{ids[1]},bad\n{ids[1]},plain\n")
    assert main(["review", "read", str(run), str(path)]) == 0
    said = capsys.readouterr().out
    assert f"{ids[0]}: bad is now good" in said
    assert f"{ids[1]}: bad or plain" in said
    trusted = [json.loads(line) for line in (run.parent / "trusted.jsonl").open()]
    assert [(row["id"], row["label"], row["source"]) for row in trusted] == [(ids[0], "good", "review")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nobody,bad", "none of 1 answers is about a row of"),
        ("{id},odd", "'odd' is not one of"),
        ("data/2,bad", "'data/2' names a row by its line, and lines move; add a column text"),
    ],
)
def test_answers_that_cannot_be_right_change_nothing(
    line: str, said: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row_id = json.loads((run / "clean/decisions.jsonl").open().readline())["id"]
    path = tmp_path / "answers.csv"
    path.write_text(f"id,label\n{line.format(id=row_id)}\n")
    assert main(["review", "read", str(run), str(path)]) == 2
    assert said in capsys.readouterr().err
    assert not (run.parent / "trusted.jsonl").exists()


@pytest.mark.slow
def test_answers_follow_the_text_that_the_sheet_carries_and_not_its_ids(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.loads(line) for line in (run / "split/rows.jsonl").open()]
    train = [row for row in rows if row["part"] == "train"]
    judging = next(row for row in rows if row["part"] == "test")
    with (tmp_path / "answers.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(
            [
                ("id", "text", "label"),
                ("data/2", train[0]["text"], "bad"),  # a line, as an earlier version named rows
                (train[5]["id"], train[1]["text"], "good"),  # the id of another row
                (train[7]["id"], "A text that was in the data once.", "plain"),
                (train[8]["id"], judging["text"], "plain"),
            ]
        )
    assert main(["review", "read", str(run), str(tmp_path / "answers.csv")]) == 0
    said = capsys.readouterr().out
    assert "4 rows answered, 0 not yet, 0 skipped\n  2 taken" in said
    assert "1 not taken, because calibration and test rows may not train" in said
    assert f"1 unknown: no row of the run has the text (or, without a text, the id):\n    {train[7]['id']}" in said
    trusted = [json.loads(line) for line in (run.parent / "trusted.jsonl").open()]
    assert [(row["id"], row["label"]) for row in trusted] == [(train[0]["id"], "bad"), (train[1]["id"], "good")]


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["csv", "label-studio", "argilla"])
def test_a_file_without_an_answer_says_so_and_what_was_looked_for(
    tool: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / ("looks.csv" if tool == "csv" else "looks.json")
    assert main(["review", "export", str(run), str(path), "--to", tool, "--rows", "8"]) == 0
    if tool == "label-studio":
        tasks = exported(path)
        tasks[0]["annotations"] = [annotated("good")]
        tasks[0]["annotations"][0]["result"][0]["from_name"] = "mood"
        tasks[1]["annotations"] = [annotated("good", cancelled=True)]
        path.write_text(json.dumps(tasks))
    capsys.readouterr()
    assert main(["review", "read", str(run), str(path)]) == 0
    said = capsys.readouterr().out
    if tool == "label-studio":
        assert "0 rows answered, 7 not yet, 1 skipped" in said
        assert "looked for answers to 'label'; the file has answers to 'mood'" in said
    else:
        assert "0 rows answered, 8 not yet, 0 skipped\n  looked for answers to 'label'; nothing was changed" in said


@pytest.mark.slow
@pytest.mark.parametrize("tool", ["csv", "label-studio", "argilla"])
def test_rows_drawn_at_random_are_told_from_chosen_ones_on_their_way_back(
    tool: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / ("looks.csv" if tool == "csv" else "looks.json")
    words = ["review", "export", str(run), str(path), "--to", tool, "--rows", "4", "--random", "12"]
    assert main(words) == 0
    assert "12 of them were drawn at random" in capsys.readouterr().out
    answer_as_gold(run, path, tool)
    assert main(["review", "read", str(run), str(path)]) == 0
    stored = [json.loads(line) for line in (run.parent / "trusted.jsonl").open()]
    assert sum(row["drawn"] for row in stored) == 12
    rows = open_run(run).rows()
    assert {row["id"] for row in stored if row["drawn"]} == {row.id for row in sample_order(rows)[:12]}
    trusted = open_run(run).trusted()
    assert sum(row.drawn for row in trusted) == 12


@pytest.mark.slow
def test_a_run_whose_rows_were_split_anew_exports_nothing_and_takes_answers_by_text(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As after a run that stopped: the rows are new, and the decisions still call them by their lines."""
    decisions = [json.loads(line) for line in (run / "clean/decisions.jsonl").open()]
    renamed = [row | {"id": f"data/{i + 2}"} for i, row in enumerate(decisions)]
    (run / "clean/decisions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in renamed))
    assert main(["review", "export", str(run), str(tmp_path / "looks.csv")]) == 2
    assert "its rows were split again and not cleaned since; run the recipe" in capsys.readouterr().err
    text = next(row.text for row in open_run(run).rows("train"))
    with (tmp_path / "answers.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "text", "label"), ("data/2", text, "bad")])
    assert main(["review", "read", str(run), str(tmp_path / "answers.csv")]) == 0
    assert "1 rows answered, 0 not yet, 0 skipped\n  1 taken" in capsys.readouterr().out


def test_trusted_rows_within_a_random_sample_belong_to_it_whoever_labelled_them(tmp_path: Path) -> None:
    rows = [Example(id=str(i), text=f"text {i}", label="good") for i in range(30)]
    order = [row.id for row in sample_order(rows)]
    chosen = [Trusted(id=order[i], label="bad", source="review") for i in (1, 20)]
    drawn = [Trusted(id=order[i], label="good", source="review", drawn=True) for i in (0, 2, 3)]
    write_rows(tmp_path / "trusted.jsonl", [*chosen, *drawn])
    found = trusted_rows(rows, [], LABELS, n_gold=0, audit=[], reviewed=tmp_path / "trusted.jsonl", seed=0)
    assert {row.id for row in found if row.drawn} == set(order[:4])


def test_rows_that_a_review_picked_are_no_sample_beside_gold_that_was_drawn(tmp_path: Path) -> None:
    rows = [Example(id=str(i), text=f"text {i}", label="good") for i in range(40)]
    gold = [Gold(id=row.id, label="good") for row in rows]
    order = [row.id for row in sample_order(rows)]
    picked = [Trusted(id=row_id, label="bad", source="review") for row_id in order[:10]]
    old_line = json.dumps(
        {"id": order[10], "label": "bad", "source": "review"}
    )  # without `drawn`, as it was written once
    path = tmp_path / "trusted.jsonl"
    write_rows(path, picked)
    path.write_text(path.read_text() + old_line + "\n")
    vouched = trusted_rows(rows, gold, LABELS, n_gold=12, audit=[], reviewed=path, seed=0)
    by_gold = {row.id for row in draw_trusted(rows, gold, 12, 0)}
    assert {row.id for row in vouched if row.is_representative} == by_gold
    assert len({*order[:11]} - by_gold) > 5


@pytest.mark.slow
def test_no_row_that_judges_and_no_gold_is_in_the_queue(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "all.json"
    assert main(["review", "export", str(run), str(path), "--to", "label-studio", "--rows", "1000"]) == 0
    train = {row["id"] for row in map(json.loads, (run / "split/rows.jsonl").open()) if row["part"] == "train"}
    tasks = exported(path)
    assert {task["data"]["row_id"] for task in tasks} == train
    assert not any("gold" in task["data"] for task in tasks)


def test_a_target_is_one_entry_that_the_command_and_the_reader_know(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def write(items: Sequence[ReviewItem], labels: Sequence[str], path: Path) -> list[str]:
        path.write_text(json.dumps([{"ask": item.id, "of": list(labels), "answer": "good"} for item in items]))
        return ["  answer it"]

    def read(file: Entries) -> AnswerFile:
        answers = [Answer(id=entry["ask"], label=entry["answer"], who=file.path.name) for entry in file.entries]
        return AnswerFile(answers=answers)

    form = AnswerForm(name="a quiz", fields=("ask",), read=read)
    monkeypatch.setitem(TARGETS, "quiz", ReviewTarget(write=write, forms=(form,)))
    path = tmp_path / "quiz.json"
    TARGETS["quiz"].write(LOOKS, LABELS, path)
    assert agree(read_answers(path).answers).labels == {look.id: "good" for look in LOOKS}
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    options = parser.parse_args(["export", "run", "file", "--to", "quiz"])
    assert options.to == "quiz"
