"""A recipe written for a user's data reads back as what was asked."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid.config import Recipe, SplitConfig
from hybrid.data.label_spellings import is_blank, label_key
from hybrid.data.sources import load_data
from hybrid.errors import ConfigError, DataError
from hybrid.files.formats.dialect import column_name
from hybrid.recipe_files.find import find_recipe
from hybrid.recipe_files.read import read_recipe
from hybrid.recipe_files.scaffold import new_recipe

ROWS = [(f"text {n}", ("good", "bad")[n % 2]) for n in range(40)]


def no_fetch(name: str) -> Path:
    raise AssertionError(name)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return table(tmp_path / "data" / "rows.csv", ROWS)


def table(path: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = ("body", "class")) -> Path:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def written(data: Path, folder: Path, **asked: object) -> Recipe:
    return read_recipe(new_recipe("mine", data=str(data), text="body", label="class", folder=folder, **asked))  # type: ignore[arg-type]


def test_the_recipe_reads_back_and_finds_its_data(data: Path, tmp_path: Path) -> None:
    recipe = written(data, tmp_path / "recipes" / "mine")
    assert (recipe.name, recipe.labels, recipe.teacher.model) == ("mine", ("bad", "good"), "none")
    assert recipe.data.train == "../../data/rows.csv"
    assert len(load_data(recipe.data, folder=tmp_path / "recipes" / "mine", seed=0, fetch=no_fetch).rows) == 40


def test_a_relative_path_starts_at_the_working_directory(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert written(Path("data/rows.csv"), Path("mine")).data.train == "../data/rows.csv"


def test_what_is_commented_out_is_the_default(data: Path, tmp_path: Path) -> None:
    recipe = written(data, tmp_path / "mine")
    path = tmp_path / "mine" / "recipe.toml"
    text, n_settings = re.subn(r"^# (\w+ = .*)$", r"\1", path.read_text(), flags=re.MULTILINE)
    path.write_text(text)
    assert n_settings >= 10
    assert read_recipe(path) == recipe


def test_labels_of_any_text_survive(tmp_path: Path) -> None:
    labels = [
        '"quoted"',
        "back\\slash",
        "two\nlines",
        "tab\tbed",
        "ünï 😀",
        "del\x7f",
        "01",
        "'''",
        "# no",
        "x\x01\u2028y",
    ]
    data = table(tmp_path / "rows.csv", [(f"text {n}", labels[n % 10]) for n in range(100)])
    assert written(data, tmp_path / "mine").labels == tuple(sorted(labels))


def test_columns_and_test_file_are_written(tmp_path: Path) -> None:
    header = ("key", "body", "x", "y", 'tr"ue')
    rows = [(f"k{n}", f"text {n}", "ab"[n % 2], "b", "a") for n in range(1200)]
    data = table(tmp_path / "rows.csv", rows, header)
    test = table(tmp_path / "test.csv", [(f"t{row[0]}", *row[1:]) for row in rows[:50]], header)
    asked = {"gold": 'tr"ue', "id": "key", "annotators": ("x", "y"), "test": str(test)}
    recipe = written(data, tmp_path / "mine", **asked)
    assert (recipe.data.gold, recipe.data.id, recipe.data.annotators) == ('tr"ue', "key", ("x", "y"))
    assert (recipe.data.test, recipe.split.test, recipe.split.calibration) == ("../test.csv", 0, 0.15)


def test_a_split_column_that_names_every_part_leaves_nothing_to_deal(tmp_path: Path) -> None:
    parts = ["train", "calibration", "test"]
    data = table(tmp_path / "r.csv", [(*row, parts[n % 3]) for n, row in enumerate(ROWS)], ("body", "class", "part"))
    recipe = written(data, tmp_path / "mine", split="part")
    assert recipe.data.split == "part"
    assert "[split]" not in (tmp_path / "mine" / "recipe.toml").read_text()


def test_parts_fit_the_size_of_the_data(tmp_path: Path) -> None:
    sizes = {}
    for n_rows in (100, 2_000, 5_000, 30_000):
        data = table(tmp_path / "rows.csv", [(f"text {n}", "ab"[n % 2]) for n in range(n_rows)])
        split = written(data, tmp_path / str(n_rows)).split
        sizes[n_rows] = (split.calibration, split.test)
    assert sizes == {100: (0.2, 0.25), 2_000: (0.15, 0.25), 5_000: (600, 0.25), 30_000: (3_000, 5_000)}


def test_another_recipe_is_not_overwritten_but_the_same_may_be_asked_for_again(data: Path, tmp_path: Path) -> None:
    path = new_recipe("mine", data=str(data), text="body", label="class", folder=tmp_path / "mine")
    assert new_recipe("mine", data=str(data), text="body", label="class", folder=tmp_path / "mine") == path
    path.write_text(path.read_text() + "# my own\n")
    with pytest.raises(ConfigError, match="a recipe is there already"):
        written(data, tmp_path / "mine")
    assert path.read_text().endswith("# my own\n")


def test_settings_stand_in_the_recipe_and_hold_for_reading_the_data(tmp_path: Path) -> None:
    rows = [(f"text {n}", ("good", "bad", "good", "GOOD")[n % 4]) for n in range(90)]
    data = table(tmp_path / "rows.csv", rows)
    with pytest.raises(DataError, match="cannot tell apart"):
        written(data, tmp_path / "refused")
    settings = {
        "seed": 3,
        "description": "with = signs",
        "data": {"alike_labels": "join", "trusted": 2},
        "split": {"calibration": 0.3, "near_duplicate": 0.9},
        "train": {"epochs": 2, "row_weights": False},
        "calibrate": {"methods": ["vector"]},
        "quantize": {"precision": "fp32"},
    }
    path = tmp_path / "mine" / "recipe.toml"
    recipe = written(data, path.parent, settings=settings)
    assert recipe.labels == ("bad", "good")
    assert (recipe.seed, recipe.description) == (3, "with = signs")
    assert (recipe.data.alike_labels, recipe.data.trusted) == ("join", 2)
    assert (recipe.split.calibration, recipe.split.near_duplicate, recipe.split.test) == (0.3, 0.9, 0.25)
    assert (recipe.train.epochs, recipe.train.row_weights) == (2, False)
    assert (recipe.calibrate.methods, recipe.quantize.precision) == (("vector",), "fp32")
    lines = path.read_text().splitlines()
    assert lines.count("epochs = 2") == 1
    assert "# epochs = 8" not in lines


def test_sets_of_labels_are_asked_for_by_a_setting(tmp_path: Path) -> None:
    data = table(tmp_path / "rows.csv", [(f"text {n}", ("hot;new", "hot", "")[n % 3]) for n in range(90)])
    recipe = written(data, tmp_path / "mine", settings={"task": "multi_label", "data": {"separator": ";"}})
    assert (recipe.task, recipe.data.separator, recipe.labels) == ("multi_label", ";", ("hot", "new"))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"train": {"epoch": 2}}, r"train\.epoch: unknown key; did you mean 'epochs'"),
        ({"train": {"epochs": 0}}, r"train\.epochs = 0: expected"),
        ({"trian": {"epochs": 2}}, "trian: unknown key; did you mean 'train'"),
    ],
)
def test_a_wrong_setting_leaves_no_recipe(settings: dict[str, object], said: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        written(data, tmp_path / "mine", settings=settings)
    assert not (tmp_path / "mine").exists()


def test_bad_data_leaves_no_recipe(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no column 'tag'"):
        new_recipe("mine", data=str(data), text="body", label="tag", folder=tmp_path / "mine")
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("name", ["", "../x", "a b", ".hidden", 'q"'])
def test_a_name_that_cannot_be_a_folder_is_refused(name: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot name a recipe"):
        new_recipe(name, data=str(data), text="body", label="class", folder=tmp_path / "mine")


def test_a_recipe_is_found_by_its_folder_and_an_unknown_one_is_refused(data: Path, tmp_path: Path) -> None:
    written(data, tmp_path / "mine")
    assert find_recipe(str(tmp_path / "mine")) == tmp_path / "mine" / "recipe.toml"
    with pytest.raises(ConfigError, match=r"no such recipe; .*sentiment"):
        find_recipe("sentimental")


words = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\x00"), min_size=1, max_size=8)
columns = words.filter(lambda name: column_name(name) == name)


@settings(max_examples=40, deadline=None)
@given(
    labels=st.lists(
        words.filter(lambda label: label.strip() == label and not is_blank(label)),
        min_size=2,
        max_size=4,
        unique_by=label_key,
    ),
    names=st.lists(columns, min_size=4, max_size=4, unique=True),
)
def test_a_recipe_for_any_columns_and_labels_reads_back_as_it_was_asked_for(
    labels: list[str], names: list[str]
) -> None:
    text, label, gold, id = names
    with TemporaryDirectory() as folder:
        rows = [(f"text {n}", labels[n % len(labels)], labels[n % len(labels)], f"row {n}") for n in range(40)]
        data = table(Path(folder) / "rows.csv", rows, header=(text, label, gold, id))
        path = new_recipe(
            "mine", data=str(data), text=text, label=label, gold=gold, id=id, folder=Path(folder) / "mine"
        )
        recipe = read_recipe(path)
        assert recipe.labels == tuple(sorted(labels))
        assert (recipe.data.text, recipe.data.label, recipe.data.gold, recipe.data.id) == (text, label, gold, id)
        split = SplitConfig(calibration=0.2, test=0.25)
        assert recipe == Recipe(name="mine", labels=recipe.labels, data=recipe.data, split=split)
        loaded = load_data(recipe.data, folder=path.parent, seed=0, fetch=no_fetch)
        assert [(row.text, row.label) for row in loaded.rows] == [(row[0], row[1]) for row in rows]
