"""The bundle that ships as `demo`: small, whole, found by its name, and honest in its card."""

import csv
import re
import shutil
from pathlib import Path

import pytest

import hybrid
from hybrid.__main__ import main
from hybrid.artifacts import fetch
from hybrid.data.sources import load_data
from hybrid.recipe_files.find import shipped_recipes
from hybrid.recipe_files.read import read_recipe
from hybrid.runtime.bundle import DEMO_BUNDLE, bundle_path, read_bundle
from hybrid.stages.split import split
from serving.decoder.open_decoder import default_store

GOLDEN = Path(__file__).parent / "golden" / "bundle-format-3"
MOST_BYTES = 3_000_000


def test_it_has_at_most_three_megabytes_and_no_file_too_many() -> None:
    assert {path.name for path in DEMO_BUNDLE.iterdir()} == {
        *("README.md", "bundle.json", "data-card.md", "model.onnx", "tokenizer.json")
    }
    assert sum(path.stat().st_size for path in DEMO_BUNDLE.iterdir()) <= MOST_BYTES


def test_it_answers_by_its_name() -> None:
    classifier = hybrid.load("demo")
    assert classifier.bundle.labels == ("negative", "neutral", "positive")
    texts = ["I love it!", "This is awful, the worst day ever."]
    assert [answer.label for answer in classifier.classify(texts)] == ["positive", "negative"]


def test_a_folder_called_demo_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert bundle_path("demo") == bundle_path(Path("demo")) == DEMO_BUNDLE
    shutil.copytree(GOLDEN, tmp_path / "demo")
    assert bundle_path("demo") == Path("demo")
    assert hybrid.load("demo").bundle.labels == ("bad", "good", "plain")
    assert bundle_path("other") == Path("other")


def test_a_service_of_it_keeps_escalated_texts_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_store(DEMO_BUNDLE).parent == tmp_path
    assert default_store(tmp_path / "run" / "bundle").parent == tmp_path / "run"


def test_it_is_of_the_recipe_that_ships() -> None:
    recipe, bundle = read_recipe(shipped_recipes()["demo"]), read_bundle(DEMO_BUNDLE)
    assert (bundle.name, bundle.precision) == (recipe.name, recipe.quantize.precision)
    assert bundle.encoder == recipe.encoder.model
    assert bundle.reading.max_length == recipe.encoder.max_length


def test_its_card_says_how_good_it_is_and_what_it_is_for() -> None:
    card = (DEMO_BUNDLE / "README.md").read_text(encoding="utf-8")
    assert "to try things out, not to use" in card
    assert "On 1,200 test rows against gold labels" in card
    assert "| accuracy | 0.7" in card


def test_info_says_how_good_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "demo"]) == 0
    assert re.search(
        r"^scores +accuracy 0\.7\d+ \[.+\], macro-F1 0\.6\d+ \[.+\]; On 1,200 test rows against gold labels",
        capsys.readouterr().out,
        re.MULTILINE,
    )


@pytest.mark.slow
def test_the_large_encoder_labelled_training_rows_and_no_others() -> None:
    path = shipped_recipes()["demo"]
    recipe = read_recipe(path)
    rows = load_data(recipe.data, folder=path.parent, seed=recipe.seed, fetch=fetch, labels=recipe.labels).rows
    dealt = split(rows, recipe.labels, recipe.split, seed=recipe.seed)
    with (path.parent / "minilm.csv").open(newline="", encoding="utf-8") as file:
        labelled = [line["id"] for line in csv.DictReader(file)]
    assert sorted(labelled) == sorted(row.id for row in dealt.rows if row.part == "train")
