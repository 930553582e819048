"""`hybrid.fit`: every kind of data gives the same run as the command line, resumes like it, and says what is wrong."""

import json
import tomllib
from pathlib import Path
from typing import Any

import datasets
import pandas
import polars
import pytest

import hybrid
from hybrid.errors import ConfigError, DataError
from hybrid.from_python.fit import _source, _written
from hybrid.from_python.given_rows import given_rows
from hybrid.from_python.settings import recipe_settings
from hybrid.recipe_files.encoder_names import ENCODERS
from hybrid.recipe_files.find import shipped_recipes
from hybrid.recipe_files.read import read_recipe
from tests.corpus import noisy, texts_and_gold

TEXTS, GOLD = texts_and_gold(240)
LABELS = noisy(GOLD, 0.1)
SMALL: dict[str, Any] = {
    "split": {"calibration": 60, "test": 60, "near_duplicate": 0.98},
    "train": {"epochs": 4, "batch_size": 8, "learning_rate": 5e-3},
    "evaluate": {"bootstrap": 100},
}
COLUMNS = {"text": "body", "label": "topic", "gold": "checked"}


def frame() -> pandas.DataFrame:
    return pandas.DataFrame({"body": TEXTS, "topic": LABELS, "checked": GOLD}, index=range(100, 340))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory, bert: Path) -> hybrid.Fitted:
    run_dir = tmp_path_factory.mktemp("fit") / "dishes" / "default"
    encoder = {"model": str(bert), "max_length": 32}
    return hybrid.fit(frame(), **COLUMNS, encoder=encoder, run_dir=run_dir, quiet=True, **SMALL)


@pytest.mark.slow
def test_a_frame_becomes_a_run_with_all_that_the_command_line_writes(fitted: hybrid.Fitted) -> None:
    assert fitted.run.parts[-2:] == ("dishes", "default")
    for name in ("summary.json", "report.html", "bundle/bundle.json", "split/stamp.json", "evaluate/stamp.json"):
        assert (fitted.run / name).is_file()
    assert fitted.report == fitted.run / "report.html"
    assert fitted.metrics == json.loads((fitted.run / "summary.json").read_text())
    assert fitted.metrics["rows"] == {"train": 120, "calibration": 60, "test": 60}
    assert fitted.metrics["judged_by_gold"] is True
    assert fitted.classifier.classify(["The soup was awful."])[0].label in ("bad", "good", "plain")
    assert hybrid.load(fitted.bundle).bundle.name == "dishes"


@pytest.mark.slow
def test_the_labels_say_what_cleaning_did_on_each_training_row(fitted: hybrid.Fitted) -> None:
    labels = fitted.labels
    assert list(labels.columns) == ["id", "text", "given", "label", "action", "weight", "reason", "gold"]
    assert len(labels) == 120
    given = dict(zip(TEXTS, LABELS, strict=True))
    gold = dict(zip(TEXTS, GOLD, strict=True))
    for row in labels.itertuples():
        assert (row.given, row.gold) == (given[row.text], gold[row.text])
    assert set(labels["action"]) <= {"keep", "relabel", "drop", "review"}


@pytest.mark.slow
def test_the_result_shows_its_figures_in_a_notebook(fitted: hybrid.Fitted) -> None:
    page = fitted._repr_html_()
    accuracy = f"accuracy {fitted.metrics['test'][fitted.metrics['served']]['accuracy']:.3f}"
    assert accuracy in page
    assert accuracy in repr(fitted)
    assert "120 train, 60 calibration, 60 test" in page


@pytest.mark.slow
def test_the_same_call_skips_everything_and_a_changed_setting_only_what_depends_on_it(
    fitted: hybrid.Fitted, bert: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings: dict[str, Any] = {**COLUMNS, "encoder": {"model": bert, "max_length": 32}, "run_dir": fitted.run, **SMALL}
    hybrid.fit(polars.DataFrame({"body": TEXTS, "topic": LABELS, "checked": GOLD}), **settings)
    assert capsys.readouterr().out.count("unchanged, skipped") == 9
    hybrid.fit(frame(), **settings, calibrate={"target": 0.8})
    out = capsys.readouterr().out
    assert out.count("unchanged, skipped") == 7
    assert "bundle  " in out


def test_every_kind_of_data_gives_the_same_rows() -> None:
    columns = {"text": "body", "label": "topic"}
    as_dict = {"body": TEXTS, "topic": LABELS}
    kinds = [
        as_dict,
        pandas.DataFrame(as_dict),
        pandas.DataFrame(as_dict).astype({"topic": "category"}),
        polars.DataFrame(as_dict),
        datasets.Dataset.from_dict(as_dict),
        [{"body": text, "topic": label} for text, label in zip(TEXTS, LABELS, strict=True)],
    ]
    first, *others = [given_rows(data, columns).jsonl() for data in kinds]
    assert all(rows == first for rows in others)
    from_lists = given_rows(TEXTS, {"text": "text", "label": LABELS})
    assert from_lists.columns == {"text": TEXTS, "label": LABELS}


def test_class_numbers_of_a_data_set_become_their_names() -> None:
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    data = datasets.Dataset.from_dict({"text": ["a b", "c d"], "label": [1, 0]}, features=features)
    assert given_rows(data, {"text": "text", "label": "label"}).columns["label"] == ["good", "bad"]


def test_missing_values_are_no_labels_and_lists_of_labels_are_joined() -> None:
    data = pandas.DataFrame({"text": ["a b", "c d"], "gold": ["good", None]})
    assert given_rows(data, {"text": "text", "gold": "gold"}).columns["gold"] == ["good", None]
    sets = {"text": ["a b", "c d"], "label": [["x", "y"], []]}
    assert given_rows(sets, {"text": "text", "label": "label"}, separator="|").columns["label"] == ["x|y", "|"]


@pytest.mark.parametrize(
    ("data", "settings", "message"),
    [
        pytest.param(
            {"text": ["a"], "topic": ["x"]}, {}, r"data: no column 'label' \(label\); it has: text, topic", id="column"
        ),
        pytest.param(
            pandas.DataFrame({"text": ["a", " "], "label": ["x", "y"]}, index=[7, 9]),
            {},
            r"data, row 2 \(index 9\): the text in the column 'text' is empty",
            id="empty text",
        ),
        pytest.param(["a", "b"], {"label": ["x"]}, "label has 1 values and the column before it 2", id="length"),
        pytest.param(
            {"text": ["a"], "label": [["x", "y"]]},
            {},
            r"row 1: the column 'label' holds a list.*multi_label",
            id="list",
        ),
        pytest.param(3, {}, "got a int; expected a DataFrame", id="number"),
        pytest.param([], {}, "no rows in it", id="no rows"),
        pytest.param(
            polars.LazyFrame({"text": ["a"]}), {}, r"a LazyFrame; expected a DataFrame: call \.collect\(\)", id="lazy"
        ),
        pytest.param(
            {"text": ["a"], "label": ["x"]}, {"gold": "label"}, "'label' is named for two purposes", id="two purposes"
        ),
        pytest.param({"text": ["a\ud800"], "label": ["x"]}, {}, "holds half a character", id="surrogate"),
    ],
)
def test_rows_that_cannot_be_used_are_refused_with_row_and_column(
    data: Any, settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        hybrid.fit(data, run_dir=tmp_path / "x" / "run", **settings)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param({"train": {"epoch": 3}}, r"train\.epoch: unknown key; did you mean 'epochs'", id="key"),
        pytest.param({"trains": {}}, "trains: unknown key; did you mean 'train'", id="section"),
        pytest.param({"train": {"epochs": "3"}}, r"train\.epochs = '3': expected `int`", id="type"),
        pytest.param({"budget_usd": 5}, "budget_usd without a language model that is paid", id="budget"),
        pytest.param({"encoder": "no/such/folder"}, r"no/such/folder.*is not a folder", id="encoder"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        hybrid.fit(TEXTS, label=LABELS, run_dir=tmp_path / "x" / "run", quiet=True, **{**SMALL, **settings})


def test_columns_of_a_file_are_names() -> None:
    with pytest.raises(ConfigError, match="label is a list beside a file; expected the name of a column"):
        hybrid.fit("reviews.csv", label=["x"])


def written(folder: Path, data: Any, test: Any = None, **purposes: Any) -> dict[str, Any]:
    """The recipe that `fit` writes into a run, without running it."""
    main = _source(
        data, {"text": "text", "label": "label"} | purposes, (), name="data.jsonl", what="data", separator=""
    )
    apart = None
    if test is not None:
        apart = _source(test, main.names, (), name="test.jsonl", what="test", separator="")
    _written(folder, "reviews", main, apart, {"train": {"epochs": 2}})
    return tomllib.loads((folder / "recipe.toml").read_text())


def test_rows_lie_whole_beside_the_recipe_and_test_rows_apart(tmp_path: Path) -> None:
    rows = {"text": TEXTS[:200], "label": LABELS[:200]}
    apart = polars.DataFrame({"text": TEXTS[200:], "label": LABELS[200:]})
    recipe = written(tmp_path, rows, apart)
    assert (recipe["data"]["train"], recipe["data"]["test"]) == ("data.jsonl", "test.jsonl")
    assert recipe["train"]["epochs"] == 2
    lines = [json.loads(line) for line in (tmp_path / "data.jsonl").read_text().splitlines()]
    assert lines == [{"text": text, "label": label} for text, label in zip(TEXTS[:200], LABELS[:200], strict=True)]
    assert len((tmp_path / "test.jsonl").read_text().splitlines()) == 40


def test_a_file_stays_where_it_is(tmp_path: Path) -> None:
    pandas.DataFrame({"text": TEXTS, "label": LABELS}).to_csv(tmp_path / "reviews.csv", index=False)
    recipe = written(tmp_path / "run" / "recipe", tmp_path / "reviews.csv")
    assert recipe["data"]["train"] == "../../reviews.csv"


def test_another_call_replaces_the_recipe_of_the_last(tmp_path: Path) -> None:
    written(tmp_path, {"text": TEXTS, "label": LABELS})
    recipe = written(tmp_path, {"text": TEXTS, "label": LABELS, "gold": GOLD}, gold="gold")
    assert recipe["data"]["gold"] == "gold"


def test_a_text_may_have_a_list_of_labels_and_several_annotators(tmp_path: Path) -> None:
    """The written rows are read as the recipe reads them."""
    sets = {"text": TEXTS[:40], "label": [["x", "y"], ["y"], [], ["x"]] * 10}
    main = _source(sets, {"text": "text", "label": "label"}, (), name="data.jsonl", what="data", separator="|")
    recipe = _written(tmp_path / "sets", "sets", main, None, {"task": "multi_label"})
    assert recipe.labels == ("x", "y")
    votes = {"text": TEXTS[:40], "ann": ["x", None] * 20, "bob": ["x", "y"] * 20}
    main = _source(votes, {"text": "text"}, ["ann", "bob"], name="data.jsonl", what="data", separator="")
    recipe = _written(tmp_path / "votes", "votes", main, None, {})
    assert (recipe.data.annotators, recipe.labels) == (("ann", "bob"), ("x", "y"))


def test_paths_in_settings_count_from_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sections = {
        "data": {"audit": "audit.csv"},
        "verify": {"imports": ["a.csv", "hf:x/y"]},
        "teacher": {"policy": "p.md"},
    }
    settings = recipe_settings(sections, encoder="mpnet", teacher="model.gguf", decoder="", budget_usd=None)
    assert settings["data"]["audit"] == str(tmp_path / "audit.csv")
    assert settings["verify"]["imports"] == [str(tmp_path / "a.csv"), "hf:x/y"]
    assert settings["teacher"] == {"model": str(tmp_path / "model.gguf"), "policy": str(tmp_path / "p.md")}
    assert settings["encoder"]["model"] == "packaged:all-mpnet-base-v2"
    assert settings["train"] == {"learning_rate": 3e-5}


def test_a_budget_is_the_teachers_and_what_is_set_goes_before_what_a_name_brings() -> None:
    settings = recipe_settings(
        {"train": {"learning_rate": 1e-5}}, encoder="mpnet", teacher="claude-x", decoder="local", budget_usd=5
    )
    assert settings["teacher"] == {"model": "claude-x", "budget_usd": 5}
    assert settings["decoder"] == {"model": "local"}
    assert settings["train"] == {"learning_rate": 1e-5}


def test_without_the_packages_that_train_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybrid.from_python.fit.NEEDED", ("torch", "no_such_package"))
    with pytest.raises(ConfigError, match=r"no_such_package is not installed.*hybrid-cascade\[train\]"):
        hybrid.fit({"text": ["a"], "label": ["b"]})


def test_the_short_names_of_encoders_are_the_profiles_of_the_sentiment_recipe() -> None:
    path = shipped_recipes()["sentiment"]
    for name, profile in (
        ("minilm", "embedded"),
        ("mpnet", "mpnet"),
        ("multilingual", "multilingual"),
        ("deberta", "deberta"),
    ):
        recipe = read_recipe(path, profile=profile)
        for section, settings in ENCODERS[name].items():
            for key, value in settings.items():
                assert getattr(getattr(recipe, section), key) == value
