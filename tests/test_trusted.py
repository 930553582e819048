"""trusted rows: drawn by seed, read from files, never a row that judges, and the last word counts."""

from pathlib import Path

import pytest

from hybrid.data.trusted import draw_trusted, read_audit, trusted_rows
from hybrid.errors import ConfigError, DataError
from hybrid.recipe_files.read import read_recipe
from hybrid.types import Example, Gold
from tests.corpus import LABELS, noisy, texts_and_gold

TEXTS, TRUE = texts_and_gold(120)
ROWS = [
    Example(id=f"r{i}", text=text, label=label, part="test" if i % 4 == 0 else "train")
    for i, (text, label) in enumerate(zip(TEXTS, noisy(TRUE, 0.2), strict=True))
]
GOLD = [Gold(id=row.id, label=label) for row, label in zip(ROWS, TRUE, strict=True)]


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_drawn_rows_are_training_rows_with_their_gold_and_the_seed_says_which() -> None:
    drawn = draw_trusted(ROWS, GOLD, 30, seed=1)
    gold, part = {one.id: one.label for one in GOLD}, {row.id: row.part for row in ROWS}
    assert len({one.id for one in drawn}) == 30
    assert all(gold[one.id] == one.label and part[one.id] == "train" and one.source == "gold" for one in drawn)
    assert drawn == draw_trusted(ROWS, GOLD, 30, seed=1)
    assert {one.id for one in drawn} != {one.id for one in draw_trusted(ROWS, GOLD, 30, seed=2)}


def test_the_gold_of_rows_that_are_not_drawn_is_not_looked_at() -> None:
    drawn = draw_trusted(ROWS, GOLD, 30, seed=1)
    known = {one.id for one in drawn}
    spoilt = [one if one.id in known else Gold(id=one.id, label="nonsense") for one in GOLD]
    assert draw_trusted(ROWS, spoilt, 30, seed=1) == drawn


def test_every_given_label_gets_its_share_of_the_draw() -> None:
    given = {row.id: row.label for row in ROWS}
    train = [row.label for row in ROWS if row.part == "train"]
    drawn = [given[one.id] for one in draw_trusted(ROWS, GOLD, 30, seed=0)]
    for label in LABELS:
        assert abs(drawn.count(label) - 30 * train.count(label) / len(train)) <= 1


def test_more_trusted_rows_than_gold_is_refused() -> None:
    with pytest.raises(DataError, match=r"data.trusted = 91: 90 training rows have gold; lower it"):
        draw_trusted(ROWS, GOLD, 91, seed=0)


@pytest.mark.parametrize("name", ["audit.csv", "audit.jsonl", "audit.txt"])
def test_a_file_vouches_for_training_rows_and_leaves_out_those_that_judge(name: str, tmp_path: Path) -> None:
    said = [("r0", "good"), ("r1", "bad"), ("r2", "plain"), ("r1", "good")]
    table = "id,who,label\n" + "".join(f"{row},ann, {label} \n" for row, label in said)
    lines = "".join(f'{{"id": "{row}", "label": "{label}", "who": "ann"}}\n' for row, label in said)
    found = read_audit(write(tmp_path / name, lines if name.endswith("jsonl") else table), ROWS, LABELS)
    assert [(one.id, one.label, one.source) for one in found] == [("r1", "good", "audit"), ("r2", "plain", "audit")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id,label\nr1,good\nr999,bad\n", r"audit.csv:3: id 'r999' is no row of the data"),
        ("id,label\nr1,great\n", r"audit.csv:2: label 'great' is not one of the recipe's \(bad, good, plain\)"),
        ("id,verdict\nr1,good\n", r"audit.csv: no column 'label' in its first line"),
    ],
)
def test_a_wrong_line_is_named(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        read_audit(write(tmp_path / "audit.csv", text), ROWS, LABELS)


def test_a_review_overrules_an_audit_and_an_audit_the_gold(tmp_path: Path) -> None:
    first, second, *_ = draw_trusted(ROWS, GOLD, 10, seed=0)
    audit = write(tmp_path / "audit.csv", f"id,label\n{first.id},plain\n{second.id},plain\n")
    reviewed = write(tmp_path / "trusted.jsonl", f'{{"id": "{first.id}", "label": "bad", "source": "review"}}\n')
    found = trusted_rows(ROWS, GOLD, LABELS, n_gold=10, audit=[audit], reviewed=reviewed, seed=0)
    by_id = {one.id: one for one in found}
    assert len(found) == 10
    assert (by_id[first.id].label, by_id[first.id].source) == ("bad", "review")
    assert (by_id[second.id].label, by_id[second.id].source) == ("plain", "audit")
    order = [row.id for row in ROWS]
    assert [one.id for one in found] == sorted(by_id, key=order.index)


def test_trusted_rows_of_several_labels_are_refused(tmp_path: Path) -> None:
    recipe = 'name = "x"\ntask = "multi_label"\n[data]\ntrain = "x.csv"\ntrusted = 5\n'
    with pytest.raises(ConfigError, match=r"data.trusted is set with task = 'multi_label'"):
        read_recipe(write(tmp_path / "recipe.toml", recipe))
