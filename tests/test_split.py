"""split: exact sizes, stratified, seeded, near-duplicates in one part, gold in a table of its own."""

import random
from collections import Counter
from string import ascii_lowercase

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.config import SplitConfig
from hybrid.data.duplicates import near_duplicate_groups
from hybrid.data.source_rows import SourceRow
from hybrid.errors import DataError
from hybrid.stages.split import split
from tests.corpus import LABELS, noisy, texts_and_gold

N = 300
CONFIG = SplitConfig(calibration=45, test=90, near_duplicate=0.98)


def source_rows(n: int = N, *, gold_rows: int | None = None) -> list[SourceRow]:
    texts, gold = texts_and_gold(n)
    given = noisy(gold, 0.2)
    known = n if gold_rows is None else gold_rows
    return [SourceRow(id=f"r{i}", text=texts[i], label=given[i], gold=gold[i] if i < known else None) for i in range(n)]


def test_sizes_are_exact_and_classes_even() -> None:
    found = split(source_rows(), LABELS, CONFIG, seed=0)
    assert found.report["parts"] == {"train": 165, "calibration": 45, "test": 90}
    gold = {row.id: row.label for row in found.gold}
    overall = Counter(gold.values())
    for part, n in (("calibration", 45), ("test", 90)):
        counts = Counter(gold[row.id] for row in found.rows if row.part == part)
        assert all(abs(counts[label] - overall[label] * n / N) <= 2 for label in LABELS)


def test_a_seed_gives_the_same_split_and_another_seed_another() -> None:
    first, again, other = (split(source_rows(), LABELS, CONFIG, seed=seed).rows for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_near_duplicates_stay_in_one_part() -> None:
    rows = source_rows()
    copies = [
        SourceRow(id=f"copy{i}", text=rows[i].text.replace("table", "Table") + " 7", label="good", gold="good")
        for i in range(40)
    ]
    config = SplitConfig(calibration=45, test=90, near_duplicate=0.9)
    found = split([*rows, *copies], LABELS, config, seed=0)
    groups = near_duplicate_groups([row.text for row in found.rows], 0.9)
    sides: dict[int, set[str]] = {}
    for row, group in zip(found.rows, groups, strict=True):
        sides.setdefault(int(group), set()).add(row.part)
    assert len(sides) < len(found.rows)
    assert all(len(parts) == 1 for parts in sides.values())
    assert found.report["twins"] == []


def test_training_rows_keep_the_given_label_and_judging_rows_carry_gold() -> None:
    rows = source_rows()
    given = {row.id: row.label for row in rows}
    gold = {row.id: row.gold for row in rows}
    for row in split(rows, LABELS, CONFIG, seed=0).rows:
        assert row.label == (given if row.part == "train" else gold)[row.id]


def test_where_only_some_rows_have_gold_they_are_the_judges() -> None:
    found = split(source_rows(gold_rows=80), LABELS, SplitConfig(near_duplicate=0.98), seed=0)
    assert found.report["judged_by_gold"] is found.report["trusted"] is True
    assert found.report["parts"] == {"train": 220, "calibration": 30, "test": 50}


def test_without_gold_the_given_labels_judge_and_the_report_says_so() -> None:
    found = split(source_rows(gold_rows=0), LABELS, CONFIG, seed=0)
    assert found.report["judged_by_gold"] is found.report["trusted"] is False
    assert found.gold == []


def test_a_ready_split_is_kept_its_leaked_rows_are_named_and_calibration_comes_from_train() -> None:
    rows = [
        SourceRow(id=row.id, text=row.text, label=row.label, gold=row.gold, part="test" if i < 60 else "train")
        for i, row in enumerate(source_rows())
    ]
    rows.append(SourceRow(id="twin", text=rows[0].text, label="good", gold="good", part="train"))
    found = split(rows, LABELS, CONFIG, seed=0)
    assert found.report["parts"] == {"train": 196, "calibration": 45, "test": 60}
    placed = {row.id: row.part for row in found.rows}
    assert "r0" in found.report["twins"] or placed["twin"] == "calibration"
    assert {row.id for row in found.rows if row.part == "test"} == {f"r{i}" for i in range(60)}


def test_sizes_larger_than_the_data_say_both_numbers() -> None:
    with pytest.raises(DataError, match=r"the recipe asks for 500 rows .* but the data has 300 rows"):
        split(source_rows(), LABELS, SplitConfig(train=200, calibration=100, test=200), seed=0)


@st.composite
def datasets(draw: st.DrawFn) -> tuple[list[SourceRow], SplitConfig]:
    """Rows of one to four classes, some of them copies of others, and sizes that they are enough for."""
    classes = draw(st.lists(st.integers(0, draw(st.integers(0, 3))), min_size=4, max_size=60))
    copies = draw(st.lists(st.integers(0, len(classes) - 1), max_size=10))
    texts = ["".join(random.Random(i).choices(ascii_lowercase, k=30)) for i in range(len(classes))]
    rows = [
        SourceRow(id=f"r{i}", text=text, label=f"l{label}", gold=None)
        for i, (text, label) in enumerate(zip(texts, classes, strict=True))
    ]
    rows += [SourceRow(id=f"c{i}", text=texts[n], label=rows[n].label, gold=None) for i, n in enumerate(copies)]
    n_test = draw(st.integers(1, len(rows) // 2))
    n_calibration = draw(st.integers(1, len(rows) - n_test - 1))
    return rows, SplitConfig(calibration=n_calibration, test=n_test, near_duplicate=1.0)


@settings(max_examples=60, deadline=None)
@given(datasets(), st.integers(0, 3))
def test_every_row_gets_one_part_copies_share_theirs_and_sizes_are_exact_without_copies(
    dataset: tuple[list[SourceRow], SplitConfig], seed: int
) -> None:
    rows, config = dataset
    labels = sorted({str(row.label) for row in rows})
    found = split(rows, labels, config, seed=seed)
    assert [row.id for row in found.rows] == [row.id for row in rows]
    sizes = Counter(row.part for row in found.rows)
    assert {part: sizes[part] for part in ("train", "calibration", "test")} == found.report["parts"]
    parts_of: dict[str, set[str]] = {}
    for row in found.rows:
        parts_of.setdefault(row.text, set()).add(row.part)
    assert all(len(parts) == 1 for parts in parts_of.values())
    if len(parts_of) == len(rows):
        assert (sizes["calibration"], sizes["test"]) == (config.calibration, config.test)
        by_class = Counter((row.part, row.label) for row in found.rows)
        for label, n in Counter(row.label for row in rows).items():
            for part in ("train", "calibration", "test"):
                assert abs(by_class[part, label] - n * sizes[part] / len(rows)) < len(labels)
