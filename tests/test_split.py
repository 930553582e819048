"""split: exact sizes, stratified, seeded, near-duplicates in one part, gold in a table of its own."""

import random
from collections import Counter
from string import ascii_lowercase

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.config import SplitConfig
from hybrid.data.duplicates import near_duplicate_groups
from hybrid.data.source_rows import SourceRow
from hybrid.errors import DataError
from hybrid.stages.split import check_split, split
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


def rare(n_odd: int, *, gold_rows: int | None = None, n: int = 300) -> list[SourceRow]:
    """Return the usual rows, and some of a further class."""
    texts = [
        " ".join(random.Random(i).choices(["zebra", "violin", "harbour", "lantern", "ladder"], k=9))
        for i in range(n_odd)
    ]
    odd = [SourceRow(id=f"odd{i}", text=text, label="odd", gold="odd") for i, text in enumerate(texts)]
    return [*source_rows(n, gold_rows=gold_rows), *odd]


@pytest.mark.parametrize("n_odd", [3, 4, 7])
def test_a_rare_class_has_a_row_in_every_part_where_it_has_rows_for_all(n_odd: int) -> None:
    dealt = split(rare(n_odd), [*LABELS, "odd"], CONFIG, seed=0)
    assert dealt.report["parts"] == {"train": 165 + n_odd, "calibration": 45, "test": 90}
    assert all(dealt.report["classes"][part]["odd"] for part in ("train", "calibration", "test"))
    check_split(dealt, folds=5)


@pytest.mark.parametrize("n_odd", [1, 2])
def test_a_class_too_rare_to_train_calibrate_and_test_is_refused_with_the_number_needed(n_odd: int) -> None:
    dealt = split(rare(n_odd), [*LABELS, "odd"], CONFIG, seed=0)
    with pytest.raises(
        DataError, match=rf"label 'odd' has {n_odd} rows and none of them is for \w+; expected 3 or more"
    ):
        check_split(dealt, folds=5)


def test_more_labels_than_calibration_rows_are_refused_with_the_number_needed() -> None:
    texts, _ = texts_and_gold(400)
    rows = [SourceRow(id=f"r{i}", text=text, label=f"l{i % 40}") for i, text in enumerate(texts)]
    config = SplitConfig(calibration=30, test=100, near_duplicate=0.98)
    with pytest.raises(DataError, match=r"30 calibration rows for 40 labels, and none for 'l\d+'; .* to 40 or more"):
        check_split(split(rows, sorted({str(row.label) for row in rows}), config, seed=0), folds=5)


def test_a_class_of_near_duplicates_alone_is_refused_for_what_it_is() -> None:
    copies = [SourceRow(id=f"c{i}", text="one and the same text", label="odd", gold="odd") for i in range(9)]
    dealt = split([*source_rows(), *copies], [*LABELS, "odd"], CONFIG, seed=0)
    with pytest.raises(DataError, match=r"label 'odd' has 9 rows and none .* near-duplicates stay in one part"):
        check_split(dealt, folds=5)


def test_a_class_that_needs_more_gold_is_refused_with_the_number_needed() -> None:
    rows = source_rows(gold_rows=80)
    odd = [
        SourceRow(id=f"o{i}", text=f"{i} zebras of {i}" * (i + 1), label="odd", gold="odd" if i < 1 else None)
        for i in range(9)
    ]
    dealt = split([*rows, *odd], [*LABELS, "odd"], SplitConfig(near_duplicate=0.98), seed=0)
    with pytest.raises(
        DataError, match=r"label 'odd' has 1 rows with gold and none .* expected 2 or more, one for each of cal"
    ):
        check_split(dealt, folds=5)


@pytest.mark.parametrize(("n_gold", "needed"), [(4, 13), (8, 13), (12, 13)])
def test_too_few_gold_rows_are_refused_with_the_number_needed(n_gold: int, needed: int) -> None:
    dealt = split(source_rows(gold_rows=n_gold), LABELS, SplitConfig(near_duplicate=0.98), seed=0)
    said = rf"calibration rows of the {n_gold} rows with gold for calibrate\.folds = 5, .* expected {needed} or more rows with gold"
    with pytest.raises(DataError, match=said):
        check_split(dealt, folds=5)
    check_split(split(source_rows(gold_rows=needed), LABELS, SplitConfig(near_duplicate=0.98), seed=0), folds=5)


def test_too_few_calibration_and_test_rows_are_refused_before_anything_is_trained() -> None:
    few = split(source_rows(), LABELS, SplitConfig(calibration=4, test=90, near_duplicate=0.98), seed=0)
    with pytest.raises(
        DataError, match=r"4 calibration rows for calibrate\.folds = 5, .* raise split\.calibration to 5"
    ):
        check_split(few, folds=5)
    few = split(source_rows(20), LABELS, SplitConfig(calibration=0.1, test=0.5, near_duplicate=1.0), seed=0)
    with pytest.raises(DataError, match=r"2 calibration rows for .*; expected 46 or more rows: add rows, or raise"):
        check_split(few, folds=5)
    none = split(source_rows(), LABELS, SplitConfig(calibration=45, test=0, near_duplicate=0.98), seed=0)
    with pytest.raises(DataError, match=r"0 test rows; expected 2 or more: raise split\.test"):
        check_split(none, folds=5)
    parts = ["train"] * 250 + ["calibration"] * 49 + ["test"]
    ready = [msgspec.structs.replace(row, part=part) for row, part in zip(source_rows(), parts, strict=True)]
    with pytest.raises(DataError, match=r"1 test rows; expected 2 or more: add test rows"):
        check_split(split(ready, LABELS, CONFIG, seed=0), folds=5)
    with pytest.raises(
        DataError, match=r"49 calibration rows for calibrate\.folds = 50, .* add calibration rows, 50 or more"
    ):
        check_split(split(ready, LABELS, CONFIG, seed=0), folds=50)


def test_a_training_row_with_gold_alone_is_refused_where_it_stands() -> None:
    rows = [msgspec.structs.replace(row, label=None, where=f"rows.csv:{n}") for n, row in enumerate(source_rows(), 2)]
    with pytest.raises(DataError, match=r"rows\.csv:\d+: no given label in a training row, as in 165 rows"):
        split(rows, LABELS, CONFIG, seed=0)
