"""What annotation tools really write: exports of Label Studio and Argilla, made by their own exporters."""

import json
from pathlib import Path
from typing import Any

import pytest

from hybrid.data.row_ids import ContentIds, text_key
from hybrid.errors import DataError
from hybrid.review.answers import agree
from hybrid.review.targets import read_answers

EXPORTS = Path(__file__).parent / "annotation_exports"
SOUP, BREAD, LINES, PIE, BRULEE, STEW, LUNCH = (
    ContentIds().next_id(text)
    for text in (
        "The soup was superb.",
        'Stale bread, "again".',
        "Two lines:\ncold and greasy",
        "A <b>bland</b> pie; 5 & more",
        "Crème brûlée, crisp",
        "The stew was served.",
        "=1+1 for lunch",
    )
)


@pytest.mark.parametrize("name", ["label-studio.json", "label-studio-min.json", "label-studio.csv", "label-studio.tsv"])
def test_every_export_of_label_studio_is_read_by_the_rows_id_and_not_the_tasks(name: str) -> None:
    file = read_answers(EXPORTS / name)
    agreed = agree(file.answers)
    assert agreed.labels == {SOUP: "good", PIE: "good", BRULEE: "good"}
    # Two people who were deleted from the tool are two people still.
    assert agreed.conflicts == {STEW: ("bad", "good")}
    assert all(answer.text_key in answer.id for answer in file.answers)
    assert file.other_questions == ("mood",)
    # An empty answer and an answer to another question are open; the flat forms leave out what was skipped.
    assert (file.unanswered, file.skipped) == ((2, 1) if name == "label-studio.json" else (2, 0))


@pytest.mark.parametrize(
    "name",
    [
        "argilla-to-list-flat.json",
        "argilla-to-dict-flat.json",
        "argilla-to-dict-flat-index.json",
        "argilla-to-datasets.jsonl",
        "argilla-to-datasets.parquet",
    ],
)
def test_every_export_of_argilla_with_a_status_is_read_without_discarded_answers_and_drafts(name: str) -> None:
    file = read_answers(EXPORTS / name)
    agreed = agree(file.answers)
    assert agreed.labels == {SOUP: "good", BRULEE: "good"}
    assert agreed.conflicts == {PIE: ("bad", "good"), LUNCH: ("bad", "good")}
    assert (file.unanswered, file.skipped) == (2, 1)
    assert all(answer.text_key in answer.id for answer in file.answers)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("argilla-to-json.json", "entry 1: a response without a status, which records.to_json leaves out"),
        ("argilla-to-datasets.csv", "a csv cannot hold the lists of answers that Argilla writes"),
    ],
)
def test_an_export_of_argilla_that_lost_the_status_is_refused(name: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_answers(EXPORTS / name)


def tasks_with(tmp_path: Path, **fields: object) -> Path:
    """Label Studio's JSON export with some fields of the first annotation replaced."""
    tasks: list[dict[str, Any]] = json.loads((EXPORTS / "label-studio.json").read_text(encoding="utf-8"))
    tasks[0]["annotations"][0] |= fields
    (tmp_path / "tasks.json").write_text(json.dumps(tasks))
    return tmp_path / "tasks.json"


@pytest.mark.parametrize("fields", [{"result": None}, {"result": []}, {"was_cancelled": True}])
def test_an_annotation_without_a_result_is_no_answer(fields: dict[str, object], tmp_path: Path) -> None:
    file = read_answers(tasks_with(tmp_path, **fields))
    assert SOUP not in agree(file.answers).labels
    assert file.unanswered + file.skipped == 4


@pytest.mark.parametrize(
    "fields",
    [
        {"updated_at": None},
        {"created_at": None, "updated_at": None},
        {"completed_by": None},
        {"completed_by": {"id": 1, "email": "ann@example.org"}},
        {"completed_by": {}},
    ],
)
def test_null_dates_and_deleted_users_keep_the_answer(fields: dict[str, object], tmp_path: Path) -> None:
    file = read_answers(tasks_with(tmp_path, **fields))
    assert agree(file.answers).labels[SOUP] == "good"


def test_several_labels_in_one_annotation_are_named(tmp_path: Path) -> None:
    choice = {"from_name": "label", "value": {"choices": ["good", "bad"]}}
    with pytest.raises(DataError, match=r"entry 1: 2 labels in one annotation; expected one"):
        read_answers(tasks_with(tmp_path, result=[choice]))
    flat = (EXPORTS / "label-studio.csv").read_text(encoding="utf-8")
    (tmp_path / "flat.csv").write_text(flat.replace('1,"good",', '1,"{""choices"":[""good"",""bad""]}",', 1))
    with pytest.raises(DataError, match=r"flat.csv:2: 2 labels in one annotation"):
        read_answers(tmp_path / "flat.csv")


def test_a_person_saw_the_text_of_the_export_not_of_the_id(tmp_path: Path) -> None:
    flat = (EXPORTS / "label-studio.csv").read_text(encoding="utf-8")
    (tmp_path / "flat.csv").write_text(flat.replace("The soup was superb.", "The soup was cold."))
    answer = read_answers(tmp_path / "flat.csv").answers[0]
    assert (answer.id, answer.text_key) == (SOUP, text_key("The soup was cold."))
