"""A row is its content: answers of people and votes from elsewhere stay with their text, whatever becomes of the file."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from hybrid.config import DataConfig
from hybrid.data.row_ids import ContentIds, RowIndex, is_content_id, text_key
from hybrid.data.sources import load_data
from hybrid.data.trusted import read_audit, read_reviewed
from hybrid.errors import DataError
from hybrid.files.table import write_rows
from hybrid.review.answers import ReviewItem
from hybrid.review.csv_form import write_sheet
from hybrid.teacher.imported_votes import read_votes
from hybrid.types import Example, Trusted
from tests.corpus import LABELS, texts_and_gold

TEXTS, GOLD = texts_and_gold(40)
ROWS = [*zip(TEXTS[:-1], GOLD[:-1], strict=True), ("A note of two lines:\nit was superb", "good")]
RIGHT = dict(ROWS)
Rows = Sequence[tuple[str, str]]


def write_csv(path: Path, rows: Rows) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return path


def write_jsonl(path: Path, rows: Rows) -> Path:
    path = path.with_suffix(".jsonl")
    path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    return path


def examples_of(path: Path) -> list[Example]:
    found = load_data(DataConfig(train=path.name), folder=path.parent, seed=0, fetch=Path).rows
    return [Example(id=row.id, text=row.text, label=row.label or "", where=row.where) for row in found]


def with_crlf(rows: Rows) -> Rows:
    return [(text.replace("\n", "\r\n"), label) for text, label in rows]


CHANGES: Mapping[str, tuple[Callable[[Rows], Rows], Callable[[Path, Rows], Path]]] = {
    "a row more at the top": (lambda rows: [("A new dish, boiled", "plain"), *rows], write_csv),
    "a row less": (lambda rows: rows[1:], write_csv),
    "a line break in an earlier text": (lambda rows: [("A new\n\ndish, boiled", "plain"), *rows], write_csv),
    "sorted": (lambda rows: sorted(rows), write_csv),
    "jsonl": (lambda rows: rows, write_jsonl),
    "other line ends": (with_crlf, write_csv),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kept_as", ["review", "audit", "votes", "audit by text", "votes by text"])
def test_answers_stay_with_their_texts(change: str, kept_as: str, tmp_path: Path) -> None:
    """The labels of every third row come back as they were given, on the same texts."""
    before = examples_of(write_csv(tmp_path / "rows.csv", ROWS))
    answered = before[::3][1:] + before[-1:]
    lines = [
        Trusted(
            id="" if "by text" in kept_as else row.id,
            label=RIGHT[row.text],
            source="review",
            text_key=text_key(row.text),
        )
        for row in answered
    ]
    if kept_as == "review":
        write_rows(tmp_path / "answers.jsonl", lines)
    else:
        as_text = "by text" in kept_as
        cells = [
            {"text" if as_text else "id": row.text if as_text else row.id, "label": RIGHT[row.text]} for row in answered
        ]
        (tmp_path / "answers.jsonl").write_text("".join(json.dumps(cell) + "\n" for cell in cells))
    rows, write = CHANGES[change]
    after = examples_of(write(tmp_path / "changed.csv", rows(ROWS)))
    found: Mapping[str, str | None]
    if kept_as == "review":
        found = {row.id: row.label for row in read_reviewed(tmp_path / "answers.jsonl", after, LABELS).trusted}
    elif kept_as.startswith("audit"):
        found = {row.id: row.label for row in read_audit(tmp_path / "answers.jsonl", after, LABELS)}
    else:
        found = {vote.id: vote.label for vote in read_votes(["answers.jsonl"], tmp_path, after, LABELS)}
    text = {row.id: row.text.replace("\r\n", "\n") for row in after}
    assert {text[row_id]: label for row_id, label in found.items()} == {row.text: RIGHT[row.text] for row in answered}


def test_where_says_file_and_line_and_is_no_identity(tmp_path: Path) -> None:
    before = examples_of(write_csv(tmp_path / "rows.csv", ROWS))
    after = examples_of(write_csv(tmp_path / "rows.csv", [("A new dish, boiled", "plain"), *ROWS]))
    assert (before[0].where, after[1].where) == ("rows.csv:2", "rows.csv:3")
    assert before[0].id == after[1].id


def test_rows_with_one_text_have_ids_of_their_own() -> None:
    ids = ContentIds()
    assert len({ids.next_id(text) for text in ("one", "two", "one", "one\r\n", " one ")}) == 5
    assert all(is_content_id(ContentIds().next_id(text)) for text in ("", "x", "\ud800"))


def test_a_text_is_the_same_in_any_white_space_and_unicode_form() -> None:
    assert text_key("a\r\nb  c") == text_key(" a\nb c ")
    assert text_key("caf\u00e9") == text_key("cafe\u0301")
    assert text_key("a b") != text_key("ab")


def test_an_id_whose_text_is_another_one_is_never_meant() -> None:
    rows = [Example(id="1", text="old soup", label="bad"), Example(id="2", text="new soup", label="bad")]
    index = RowIndex(rows)
    assert index.find("1", text_key("new soup")) == [rows[1]]
    assert index.find("1", text_key("no soup")) == []
    assert index.find("1") == [rows[0]]


def test_an_answer_to_one_of_two_equal_texts_stays_when_the_other_goes() -> None:
    first, second = (ContentIds() for _ in range(2))
    before = [Example(id=first.next_id("stew"), text="stew", label="bad") for _ in range(2)]
    answer = (before[1].id, text_key("stew"))
    after = [Example(id=second.next_id("stew"), text="stew", label="bad")]
    assert RowIndex(before).find(*answer) == [before[1]]
    assert RowIndex(after).find(*answer) == after


def test_answers_by_line_of_an_earlier_version_are_refused(tmp_path: Path) -> None:
    rows = examples_of(write_csv(tmp_path / "rows.csv", ROWS))
    (tmp_path / "trusted.jsonl").write_text('{"id": "rows/2", "label": "bad", "source": "review"}\n')
    with pytest.raises(
        DataError, match=r"names a row by its line.*read the answered sheets again with: hybrid review read"
    ):
        read_reviewed(tmp_path / "trusted.jsonl", rows, LABELS)
    for read in (
        lambda: read_audit(tmp_path / "trusted.jsonl", rows, LABELS),
        lambda: read_votes(["trusted.jsonl"], tmp_path, rows, LABELS),
    ):
        with pytest.raises(DataError, match=r"trusted.jsonl:1: id 'rows/2' names a row by its line.*add a column text"):
            read()


def test_answers_by_a_column_of_ids_are_read_as_before(tmp_path: Path) -> None:
    rows = [Example(id="shop/2", text="stew", label="bad"), Example(id="17", text="soup", label="bad")]
    (tmp_path / "trusted.jsonl").write_text(
        '{"id": "shop/2", "label": "good", "source": "review"}\n{"id": "17", "label": "bad", "source": "review"}\n'
    )
    found = read_reviewed(tmp_path / "trusted.jsonl", rows, LABELS)
    assert ([(row.id, row.label) for row in found.trusted], found.n_gone) == ([("shop/2", "good"), ("17", "bad")], 0)


def test_an_answer_whose_text_is_gone_is_counted_and_lands_nowhere(tmp_path: Path) -> None:
    rows = [Example(id="1", text="stew", label="bad")]
    write_rows(tmp_path / "t.jsonl", [Trusted(id="1", label="good", source="review", text_key=text_key("soup"))])
    found = read_reviewed(tmp_path / "t.jsonl", rows, LABELS)
    assert (found.trusted, found.n_gone) == ([], 1)


def test_an_audit_whose_text_is_not_that_of_its_row_is_refused(tmp_path: Path) -> None:
    rows = [Example(id="1", text="stew", label="bad")]
    (tmp_path / "audit.csv").write_text("id,text,label\n1,soup,good\n")
    with pytest.raises(DataError, match=r"audit.csv:2: no row of the data has this text, and the row with the id '1'"):
        read_audit(tmp_path / "audit.csv", rows, LABELS)


def test_an_audit_has_whole_numbers_as_ids_and_lines_without_a_label(tmp_path: Path) -> None:
    rows = [Example(id="2", text="stew", label="bad"), Example(id="3", text="soup", label="bad")]
    (tmp_path / "audit.jsonl").write_text('{"id": 2, "label": "good"}\n{"id": 3, "label": ""}\n')
    assert [(row.id, row.label) for row in read_audit(tmp_path / "audit.jsonl", rows, LABELS)] == [("2", "good")]


def test_a_filled_in_review_sheet_is_an_audit_as_it_stands(tmp_path: Path) -> None:
    rows = [Example(id="-1", text="=stew", label="bad"), Example(id="-2", text="'=soup", label="bad")]
    items = [
        ReviewItem(id=row.id, text=row.text, given="bad", label="bad", belief=0.5, gain=0.5, why="a doubt")
        for row in rows
    ]
    write_sheet(items, LABELS, tmp_path / "sheet.csv")
    sheet = (tmp_path / "sheet.csv").read_text(encoding="utf-8-sig").replace("0.5,", "0.5,good")
    (tmp_path / "sheet.csv").write_text(sheet, encoding="utf-8-sig")
    assert [(row.id, row.label) for row in read_audit(tmp_path / "sheet.csv", rows, LABELS)] == [
        ("-1", "good"),
        ("-2", "good"),
    ]
    assert [vote.id for vote in read_votes(["sheet.csv"], tmp_path, rows, LABELS)] == ["-1", "-2"]
