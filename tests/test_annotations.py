"""Annotators and votes from elsewhere: who abstains gives no label, and every class that anybody names is one."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from hybrid.config import DataConfig
from hybrid.data.annotations import is_no_vote, no_votes_phrase
from hybrid.data.label_checks import check_labels
from hybrid.data.source_rows import Dataset, labels_of
from hybrid.data.sources import load_data
from hybrid.data.trusted import read_audit
from hybrid.errors import DataError
from hybrid.label_sets import label_named
from hybrid.recipe_files.read import read_recipe
from hybrid.recipe_files.scaffold import new_recipe
from hybrid.teacher.imported_votes import read_votes, tally, tally_without_label
from hybrid.types import Example

LABELS = ("bad", "good")


def write_annotated(path: Path, votes: Sequence[Sequence[str]], n: int = 60) -> Path:
    """Write `n` rows with three annotators, the first of them with the `votes`, the others good and bad in turn."""
    lines = ["text,A,B,C"]
    rows = [*votes, *([["good"] * 3, ["bad"] * 3] * n)[: n - len(votes)]]
    lines += [f"text number {i},{','.join(row)}" for i, row in enumerate(rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def annotated(path: Path, votes: Sequence[Sequence[str]], *, labels: Sequence[str] = ()) -> Dataset:
    write_annotated(path, votes)
    config = DataConfig(train=path.name, annotators=("A", "B", "C"))
    return load_data(config, folder=path.parent, seed=0, fetch=Path, labels=labels)


@pytest.mark.parametrize(
    "value", ["-1", "-1.0", "nan", "NaN", "none", "None", "n/a", "cannot be labeled", "Cannot be  labeled"]
)
def test_who_abstains_names_no_class(value: str, tmp_path: Path) -> None:
    dataset = annotated(tmp_path / "rows.csv", [[value, "good", "bad"], [value, value, "bad"]])
    assert labels_of(dataset) == ["bad", "good"]
    assert dataset.rows[0].annotations == {"B": "good", "C": "bad"}
    assert (dataset.rows[1].annotations, dataset.rows[1].label) == ({"C": "bad"}, "bad")
    assert sum(dataset.no_votes.values()) == 3


def test_a_row_on_which_nobody_voted_is_left_out_and_counted(tmp_path: Path) -> None:
    dataset = annotated(tmp_path / "rows.csv", [["none", "none", ""], ["", "", ""]])
    assert (len(dataset.rows), dataset.rows_without_vote) == (58, 2)
    assert no_votes_phrase(dataset.no_votes, dataset.rows_without_vote) == (
        "; 2 cells of annotators are no votes ('none' 2); 2 rows without a vote left out"
    )


def test_a_label_of_the_recipe_is_a_vote_whatever_it_is_called(tmp_path: Path) -> None:
    dataset = annotated(tmp_path / "rows.csv", [["none", "none", "good"]], labels=("bad", "good", "none"))
    assert (dataset.rows[0].label, dict(dataset.no_votes)) == ("none", {})


def test_the_values_that_mean_no_vote_are_a_setting(tmp_path: Path) -> None:
    write_annotated(tmp_path / "rows.csv", [["none", "none", "good"], ["skipped", "good", "good"]])
    config = DataConfig(train="rows.csv", annotators=("A", "B", "C"), no_vote=("Skipped",))
    dataset = load_data(config, folder=tmp_path, seed=0, fetch=Path)
    assert labels_of(dataset) == ["bad", "good", "none"]
    assert dict(dataset.no_votes) == {"skipped": 1}


def test_a_new_recipe_has_every_class_that_anybody_voted_for(tmp_path: Path) -> None:
    data = write_annotated(tmp_path / "rows.csv", [["bad", "bad", "mixed"], ["none", "good", "good"]])
    path = new_recipe(
        "rows", data=str(data), text="text", label="", annotators=("A", "B", "C"), folder=tmp_path / "rows"
    )
    recipe = read_recipe(path)
    assert recipe.labels == ("bad", "good", "mixed")
    assert "# In these data: 1 cells of annotators are no votes ('none' 1)." in path.read_text()
    config = DataConfig(train="rows.csv", annotators=("A", "B", "C"))
    check_labels(load_data(config, folder=tmp_path, seed=0, fetch=Path), recipe.labels)


ROWS = [Example(id=f"r{i}", text=f"text {i}", label="good") for i in range(6)]


def votes_in(path: Path, *labels: str) -> list[tuple[str, str | None]]:
    path.write_text("id,label\n" + "".join(f"r{i},{label}\n" for i, label in enumerate(labels)))
    return [(vote.status, vote.label) for vote in read_votes([path.name], path.parent, ROWS, LABELS)]


def test_an_imported_vote_that_names_no_label_is_counted_and_refuses_nothing(tmp_path: Path) -> None:
    votes = votes_in(tmp_path / "crowd.csv", "good", "Bad ", "-1", "cannot be labeled", "", "soso")
    assert votes == [
        ("ok", "good"),
        ("ok", "bad"),
        ("abstained", None),
        ("abstained", None),
        ("abstained", None),
        ("unreadable", None),
    ]
    imported = read_votes(["crowd.csv"], tmp_path, ROWS, LABELS)
    assert imported[-1].reason == "'soso' is not one of the labels"
    assert tally(imported) == {"crowd": 2}
    assert tally_without_label(imported) == {"crowd": {"abstained": 3, "unreadable": 1}}


def test_a_file_none_of_whose_labels_is_in_the_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"crowd.csv: none of its labels is one of the recipe's \(bad, good\)"):
        votes_in(tmp_path / "crowd.csv", "positive", "negative", "-1")
    assert votes_in(tmp_path / "empty.csv", "", "nan") == [("abstained", None)] * 2


def test_an_audit_line_that_abstains_is_unanswered(tmp_path: Path) -> None:
    (tmp_path / "audit.csv").write_text("id,label\nr0,none\nr1,\nr2,Good\n")
    assert [(row.id, row.label) for row in read_audit(tmp_path / "audit.csv", ROWS, LABELS)] == [("r2", "good")]


def test_labels_that_differ_in_case_alone_are_told_apart_by_their_spelling() -> None:
    assert label_named("US", ("us", "US")) == "US"
    assert label_named("Us", ("us", "US")) is None
    assert label_named(" GOOD ", LABELS) == "good"
    assert not is_no_vote("none", ("none",), ("none",))
