"""Several labels in a cell: read once, one canonical string, and the rare ones dealt evenly."""

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.config import DataConfig, SplitConfig, TrainConfig
from hybrid.data.label_checks import check_labels
from hybrid.data.source_rows import Dataset, SourceRow, labels_of
from hybrid.data.sources import load_data
from hybrid.data.training_rows import NO_LABEL, class_weights, hold_out, training_rows
from hybrid.errors import ConfigError, DataError
from hybrid.label_sets import index_by_label, join_labels, label_matrix, rarest_labels, split_labels
from hybrid.labels.cleaning import keep_as_given
from hybrid.recipe_files.read import read_recipe
from hybrid.stages.split import split
from hybrid.types import LABEL_SEPARATOR, Example

LABELS = ("fast", "cheap", "good")
CELLS = ("good|fast", "", "cheap", "fast|cheap|good", "good", "fast")
RECIPE = 'name = "x"\ntask = "multi_label"\nlabels = ["a", "b"]\n[data]\ntrain = "x.csv"\n'


def read(folder: Path, lines: list[str], **config: object) -> Dataset:
    (folder / "rows.csv").write_text("\n".join([*lines, *(f"more {n},cheap,cheap" for n in range(30))]))
    found = DataConfig(train="rows.csv", **config)  # type: ignore[arg-type]
    return load_data(found, folder=folder, seed=0, fetch=lambda name: Path(name), task="multi_label")


def test_equal_sets_are_equal_strings_and_come_back() -> None:
    assert join_labels(["b", "a", "b"]) == join_labels(("a", "b")) == "a|b"
    assert split_labels("a|b") == ("a", "b")
    assert split_labels(join_labels([])) == ()


def test_a_matrix_has_its_columns_in_the_order_of_the_labels() -> None:
    found = label_matrix(["fast|good", "", "cheap"], LABELS)
    assert found.tolist() == [[True, False, True], [False] * 3, [False, True, False]]
    with pytest.raises(DataError, match=r"row 1 of 2 has the label 'slow'"):
        label_matrix(["fast", "fast|slow"], LABELS)


def test_a_row_stands_under_its_rarest_label() -> None:
    assert rarest_labels(["a|b", "a", "a|b|c", ""]) == ["b", "a", "c", ""]


def test_cells_are_split_trimmed_and_sorted_and_an_empty_one_is_no_label(tmp_path: Path) -> None:
    lines = ["text,label,gold", "t1,good ; fast;,fast", "t2,,", 't3,"cheap",;', "t4,fast;fast,good;cheap"]
    rows = read(tmp_path, lines, gold="gold", separator=";").rows
    assert [row.label for row in rows[:4]] == ["fast|good", "", "cheap", "fast"]
    assert [row.gold for row in rows[:4]] == ["fast", None, "", "cheap|good"]


def test_the_labels_of_the_data_are_the_single_ones(tmp_path: Path) -> None:
    found = read(tmp_path, ["text,label,gold", "t1,good|fast,", "t2,,"])
    assert labels_of(found) == ["cheap", "fast", "good"]
    check_labels(found, LABELS)
    with pytest.raises(DataError, match=r"rows\.csv:2: label 'good' is not one of the recipe's"):
        check_labels(found, ("cheap", "fast"))


def test_the_mark_of_the_tables_is_refused_in_a_label(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.csv:2: label 'a\|b' has '\|' in it"):
        read(tmp_path, ["text,label,gold", "t1,a|b;c,"], separator=";")


def test_one_label_a_text_keeps_the_mark(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"t{n},{'a|b' if n % 2 else 'c'}\n" for n in range(30)))
    found = load_data(DataConfig(train="rows.csv"), folder=tmp_path, seed=0, fetch=lambda name: Path(name))
    assert labels_of(found) == ["a|b", "c"]


def test_data_without_any_label_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("text,label\n" + "".join(f"t{n},\n" for n in range(30)))
    with pytest.raises(DataError, match="no row has a label"):
        load_data(
            DataConfig(train="rows.csv"), folder=tmp_path, seed=0, fetch=lambda name: Path(name), task="multi_label"
        )


@pytest.mark.parametrize(
    "asked",
    [
        '[teacher]\nmodel = "local"\n',
        '[decoder]\nmodel = "local"\n',
        "[synthesize]\nuse = true\n",
        '[synthesize]\ndrafts = "drafts.jsonl"\n',
    ],
)
def test_what_several_labels_do_not_have_yet_is_refused_in_one_sentence(asked: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE + asked)
    with pytest.raises(ConfigError, match=r"with task = 'multi_label'.*leave it out"):
        read_recipe(tmp_path / "recipe.toml")


def test_annotators_and_a_label_with_the_separator_in_it_are_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text(RECIPE + 'annotators = ["x", "y"]\n')
    with pytest.raises(ConfigError, match=r"data\.annotators is set"):
        read_recipe(tmp_path / "recipe.toml")
    (tmp_path / "recipe.toml").write_text(RECIPE.replace('"b"]', '"b|c"]'))
    with pytest.raises(ConfigError, match=r"labels: 'b\|c'"):
        read_recipe(tmp_path / "recipe.toml")


def test_a_rare_label_is_dealt_evenly_to_the_parts() -> None:
    rng = np.random.default_rng(0)
    drawn = ["".join(map(chr, rng.integers(97, 122, 30))) for _ in range(300)]
    labels = ["often|rare" if n % 15 == 0 else "often" if n % 2 else "" for n in range(300)]
    rows = [
        SourceRow(id=str(n), text=text, label=label) for n, (text, label) in enumerate(zip(drawn, labels, strict=True))
    ]
    found = split(rows, ("often", "rare"), SplitConfig(calibration=60, test=60), seed=0, task="multi_label")
    assert [found.report["classes"][part]["rare"] for part in ("train", "calibration", "test")] == [12, 4, 4]
    assert Counter(row.label for row in found.rows) == Counter(labels)


def test_rows_are_kept_as_given_with_counts_by_label() -> None:
    rows = [Example(id=str(n), text="t", label=cell) for n, cell in enumerate(CELLS)]
    found = keep_as_given(rows, LABELS)
    assert [(d.action, d.label, d.weight) for d in found.decisions] == [("keep", cell, 1.0) for cell in CELLS]
    assert found.report["classes_after"] == {"fast": 3, "cheap": 2, "good": 3}


def rows_to_train(config: TrainConfig) -> list[np.ndarray]:
    rows = [Example(id=str(n), text=f"t{n}", label=cell) for n, cell in enumerate(CELLS)]
    decisions = keep_as_given(rows, LABELS).decisions
    found = training_rows(rows, decisions, [], LABELS, config, task="multi_label")
    assert [row.label for row in found] == [0, NO_LABEL, 1, 1, 2, 0]
    return [np.asarray(row.target) for row in found]


def test_targets_are_the_set_and_smoothing_draws_each_label_to_one_half() -> None:
    assert np.array_equal(rows_to_train(TrainConfig()), label_matrix(CELLS, LABELS))
    smooth = rows_to_train(TrainConfig(label_smoothing=0.2))
    assert smooth[0] == pytest.approx([0.9, 0.1, 0.9])


def test_balanced_weights_give_every_labels_rows_the_same_say() -> None:
    rows = [Example(id=str(n), text="t", label="fast" if n % 4 else "fast|good") for n in range(40)]
    config = TrainConfig(class_weights="balanced", labels="given")
    found = training_rows(rows, [], [], LABELS, config, task="multi_label")
    weights = class_weights(found, 3, config, task="multi_label")
    assert weights[0] * 40 == pytest.approx(weights[2] * 10)
    assert weights[0] * 40 + weights[2] * 10 == pytest.approx(50)


def test_more_labels_than_validation_rows_leave_a_validation_part_of_the_size_asked_for() -> None:
    labels = [f"label {n:04d}" for n in range(500)]
    rows = [Example(id=str(n), text=f"t{n}", label=labels[n % 500]) for n in range(1000)]
    config = TrainConfig(labels="given", validation=0.1)
    fitting, validation = hold_out(training_rows(rows, [], [], labels, config), config, seed=0)
    assert (len(fitting), len(validation)) == (900, 100)


NAMES = st.text(st.characters(exclude_characters=LABEL_SEPARATOR, exclude_categories=["Cs"]), min_size=1, max_size=6)


@settings(deadline=None)
@given(sets=st.lists(st.sets(NAMES, max_size=5), max_size=8), order=st.randoms())
def test_any_sets_of_labels_come_back_from_their_joins_and_from_the_matrix(
    sets: list[set[str]], order: random.Random
) -> None:
    labels = sorted(set().union(*sets))
    order.shuffle(labels)
    joined = [join_labels(order.sample(sorted(one), len(one))) for one in sets]
    assert [set(split_labels(cell)) for cell in joined] == sets
    assert [join_labels(split_labels(cell)) for cell in joined] == joined
    matrix = label_matrix(joined, labels)
    assert matrix.shape == (len(sets), len(labels))
    assert [{label for label, has in zip(labels, row, strict=True) if has} for row in matrix] == sets
    rarest = rarest_labels(joined)
    counts = Counter(label for one in sets for label in one)
    assert all(
        label in one and counts[label] == min(counts[other] for other in one) if one else label == ""
        for label, one in zip(rarest, sets, strict=True)
    )


@settings(deadline=None)
@given(labels=st.lists(NAMES, unique=True, max_size=8))
def test_the_position_of_a_label_is_its_column(labels: list[str]) -> None:
    index = index_by_label(labels)
    assert [labels[index[label]] for label in labels] == labels
    assert list(index.values()) == list(range(len(labels)))
