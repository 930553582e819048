"""The sentiment recipe's own data: real files, fetched once and cached."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hybrid.artifacts import fetch
from hybrid.config import Recipe
from hybrid.data.label_checks import check_labels
from hybrid.data.source_rows import Dataset
from hybrid.data.sources import load_data
from hybrid.recipe_files.find import find_recipe
from hybrid.recipe_files.read import read_recipe

FOLDER = Path(__file__).parents[1] / "recipes" / "sentiment"


def recipe(profile: str = "") -> Recipe:
    return read_recipe(FOLDER / "recipe.toml", profile=profile)


def load(seed: int = 0) -> Dataset:
    return load_data(recipe().data, folder=FOLDER, seed=seed, fetch=fetch)


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").split("\n") if line]


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load()


def test_the_recipe_is_found_by_name_folder_and_file() -> None:
    assert {find_recipe(name).resolve() for name in ("sentiment", str(FOLDER), str(FOLDER / "recipe.toml"))} == {
        FOLDER / "recipe.toml"
    }


def test_the_profiles_differ_in_encoder_and_learning_rate() -> None:
    embedded, deberta = recipe(), recipe("deberta")
    assert (embedded.profile, embedded.encoder.model) == ("embedded", "packaged:all-MiniLM-L6-v2")
    assert deberta.encoder.model == "hf:microsoft/deberta-v3-base"
    assert (deberta.train.learning_rate, deberta.train.batch_size) == (2e-5, 16)
    assert (embedded.split.train, embedded.split.calibration, embedded.split.test) == (2400, 600, 1200)


def test_files_that_the_recipe_names_are_there() -> None:
    wanted = recipe()
    names = [wanted.data.prepare, wanted.teacher.traces, wanted.teacher.policy, wanted.synthesize.drafts]
    assert [name for name in names if not (FOLDER / name).is_file()] == []


@pytest.mark.slow
def test_gold_has_the_published_classes(dataset: Dataset) -> None:
    assert Counter(row.gold for row in dataset.rows) == {"positive": 2345, "negative": 1087, "neutral": 768}
    assert len({row.id for row in dataset.rows}) == len({row.text for row in dataset.rows}) == 4200
    check_labels(dataset, recipe().labels)


@pytest.mark.slow
def test_one_raters_label_is_wrong_about_one_time_in_five() -> None:
    wrong = [sum(row.label != row.gold for row in load(seed).rows) / 4200 for seed in range(5)]
    assert all(0.18 < share < 0.215 for share in wrong)
    assert len(set(wrong)) > 1


@pytest.mark.slow
def test_a_draw_depends_on_seed_and_id_alone(dataset: Dataset, tmp_path: Path) -> None:
    whole = fetch("vader-tweets")
    for name in ("tweets_GroundTruth.txt", "tweets_anonDataRatings.txt"):
        content = (whole / name).read_text(encoding="utf-8-sig").split("\n")
        (tmp_path / name).write_text("\ufeff" + "\n".join(reversed(content[100:400])), encoding="utf-8")
    part = load_data(recipe().data, folder=FOLDER, seed=0, fetch=lambda _: tmp_path)
    labels = {row.id: row.label for row in dataset.rows}
    assert [row.label for row in part.rows] == [labels[row.id] for row in part.rows]
    assert load().rows == dataset.rows


@pytest.mark.slow
def test_every_text_has_the_trace_that_was_recorded_for_it(dataset: Dataset) -> None:
    hashes = {trace["id"]: trace["text_sha256"] for trace in lines("traces.jsonl")}
    folded = {row.id: " ".join(row.text.split()).encode() for row in dataset.rows}
    assert hashes == {row_id: hashlib.sha256(text).hexdigest()[:16] for row_id, text in folded.items()}
    assert {trace["label"] for trace in lines("traces.jsonl")} == set(recipe().labels)


@pytest.mark.slow
def test_drafts_are_of_rare_classes_and_name_real_parents(dataset: Dataset) -> None:
    drafts = lines("synthetic.jsonl")
    assert Counter(draft["label"] for draft in drafts) == {"neutral": 320, "negative": 130}
    assert {parent for draft in drafts for parent in draft["parents"]} <= {row.id for row in dataset.rows}
