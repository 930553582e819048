"""Several labels a text, from the recipe to the answers of the bundle, by the command line."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import hybrid
from hybrid.errors import ConfigError
from hybrid.types import Vote
from tests.conftest import hybrid_recipe
from tests.corpus import DISHES, PLACES, WORDS

pytestmark = pytest.mark.slow

ROWS = 420
RECIPE = """
name = "traits"
task = "multi_label"
[data]
train = "data.csv"
label = "labels"
gold = "gold"
separator = ";"
[split]
calibration = 90
test = 90
near_duplicate = 0.98
[encoder]
model = "{encoder}"
max_length = 32
[train]
epochs = 10
batch_size = 4
learning_rate = 3e-3
[calibrate]
target = 0.5
[evaluate]
bootstrap = 100
"""


def texts_and_sets(n: int, seed: int = 0) -> tuple[list[str], list[list[str]]]:
    """Return texts with the words of none, one, two or all three of the labels in them."""
    rng = np.random.default_rng(seed)
    texts, sets = [], []
    for number in range(n):
        labels = [label for label, share in (("bad", 0.4), ("good", 0.4), ("plain", 0.2)) if rng.random() < share]
        words = " and ".join([str(rng.choice(WORDS[label])) for label in labels]) or "there"
        texts.append(f"The {rng.choice(DISHES)} at the {rng.choice(PLACES)} was {words}, table {number}.")
        sets.append(labels)
    return texts, sets


def write_project(folder: Path, encoder: Path) -> Path:
    """Write rows whose given labels are wrong in every tenth row, with gold, and a recipe of theirs."""
    folder.mkdir(parents=True)
    texts, sets = texts_and_sets(ROWS)
    with (folder / "data.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "labels", "gold"])
        for number, (text, labels) in enumerate(zip(texts, sets, strict=True)):
            given = ["plain"] if number % 10 == 0 else labels
            writer.writerow([text, "; ".join(reversed(given)), ";".join(labels) or ";"])
    (folder / "recipe.toml").write_text(RECIPE.format(encoder=encoder), encoding="utf-8")
    return folder / "recipe.toml"


@pytest.fixture(scope="module")
def traits(tmp_path_factory: pytest.TempPathFactory, bert: Path) -> Path:
    """The folder of a finished multi-label run."""
    folder = tmp_path_factory.mktemp("multi")
    done = hybrid_recipe(str(write_project(folder / "traits", bert)), "--runs", str(folder / "runs"), cwd=folder)
    assert done.returncode == 0, done.stderr + done.stdout
    return folder / "runs" / "traits" / "default"


def report(run: Path, stage: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((run / stage / "report.json").read_text())
    return found


def test_it_learns_and_the_summary_counts_whole_sets(traits: Path) -> None:
    summary = json.loads((traits / "summary.json").read_text())
    judged = [json.loads(line) for line in (traits / "evaluate" / "judged.jsonl").open()]
    right = np.mean([row["gold"] == row["label"] for row in judged])
    assert summary["task"] == "multi_label"
    assert summary["test"]["cleaned"]["accuracy"] == pytest.approx(right, abs=1e-6)
    assert right > 0.2
    assert summary["test"]["cleaned"]["micro_f1"] > 0.6  # every label on every row has 0.5
    assert 0.03 < summary["labels"]["wrong_given"] < 0.15
    assert summary["labels"]["wrong_cleaned"] == summary["labels"]["wrong_given"]
    assert {"", "bad|good"} <= {row["gold"] for row in judged}


def test_every_row_is_kept_as_given_and_none_is_written(traits: Path) -> None:
    assert report(traits, "clean")["actions"] == {"keep": 240, "relabel": 0, "drop": 0, "review": 0}
    assert report(traits, "synthesize")["minority"] == []
    rows = {row["id"]: row for row in map(json.loads, (traits / "split" / "rows.jsonl").open())}
    assert {row["label"] for row in rows.values()} >= {"", "bad", "bad|good|plain"}


def test_the_bundle_gives_each_text_the_labels_over_their_cutoffs(traits: Path) -> None:
    classifier = hybrid.load(traits / "bundle")
    texts = texts_and_sets(60, seed=1)[0]
    cutoffs = dict(zip(classifier.bundle.labels, classifier.bundle.calibration.cutoffs, strict=True))
    found = classifier.classify(texts)
    for one in found:
        assert one.labels == tuple(sorted(name for name, p in one.probs.items() if p >= cutoffs[name]))
        assert one.label == "|".join(one.labels)
        assert one.escalate == (one.confidence < classifier.bundle.threshold.value)
    assert {len(one.labels) for one in found} >= {0, 1, 2}
    assert max(sum(one.probs.values()) for one in found) > 1.2


def test_a_text_alone_gets_the_answer_that_it_gets_among_others(traits: Path) -> None:
    classifier = hybrid.load(traits / "bundle")
    texts = texts_and_sets(20, seed=2)[0]
    together = classifier.classify(texts)
    for text, one in zip(texts, together, strict=True):
        alone = classifier.classify([text])[0]
        assert alone.labels == one.labels
        assert alone.confidence == pytest.approx(one.confidence, abs=1e-3)


def test_the_page_and_the_card_speak_of_sets(traits: Path) -> None:
    page, card = (traits / "report.html").read_text(), (traits / "bundle" / "README.md").read_text()
    assert "whole set of labels is right" in page
    assert "Label by label" in page
    assert "Which labels are taken for which" not in page
    assert "answer.labels" in card
    assert "micro-F1" in card


def test_a_decoder_is_refused_where_it_would_decide_one_label(traits: Path) -> None:
    class Decides:
        def decide(self, texts: list[str]) -> list[Vote]:
            raise AssertionError

    with pytest.raises(ConfigError, match="got a decoder for a multi_label bundle"):
        hybrid.load(traits / "bundle", decoder=Decides())


def test_the_ablation_compares_with_gold_alone(traits: Path) -> None:
    project = traits.parents[2] / "traits" / "recipe.toml"
    words = (str(project), "--runs", str(traits.parents[1]), "--ablate", "--set", "train.epochs=1", "--name", "short")
    done = hybrid_recipe(*words, cwd=traits.parents[2])
    assert done.returncode == 0, done.stderr
    summary = json.loads((traits.parent / "short" / "summary.json").read_text())
    assert {"cleaned", "gold"} <= set(summary["test"])
    assert "given" not in summary["test"]
