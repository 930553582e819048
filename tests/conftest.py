"""What several tests share: a corpus, tiny encoders on disk, and one finished run of the whole story."""

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from tests.corpus import noisy, texts_and_gold
from tests.tiny import tiny_bert, tiny_deberta

ROWS = 420
LONGEST = (
    "test_wheel.py",
    "test_readme.py",
    "test_story.py",
    "test_live.py",
    "test_multi_label.py",
    "test_bad_input.py",
)
"""The files that take longest, the longest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest: run side by side, none of them is left for one process at the end."""
    rank = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(LONGEST)))


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make` fills once a session, whichever of pytest-xdist's workers asks for it first.

    The others wait for it. Tests share the folder: one that changes it works on a copy.
    """
    session = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        session = session.parent
    folder, made = session / name, session / f"{name}.made"
    with FileLock(session / f"{name}.lock"):
        if not made.exists():
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "bert", lambda folder: tiny_bert(folder, texts_and_gold(ROWS)[0]))


@pytest.fixture(scope="session")
def deberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "deberta", lambda folder: tiny_deberta(folder, texts_and_gold(ROWS)[0]))


def write_project(folder: Path, encoder: Path, extra: str = "") -> Path:
    """Write a small project: data.csv with text, label and gold, and a recipe that trains `encoder` on it."""
    folder.mkdir(parents=True, exist_ok=True)
    texts, gold = texts_and_gold(ROWS)
    with (folder / "data.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "gold"])
        writer.writerows(zip(texts, noisy(gold, 0.15), gold, strict=True))
    (folder / "recipe.toml").write_text(
        f"""
name = "dishes"
labels = ["bad", "good", "plain"]
[data]
train = "data.csv"
gold = "gold"
[split]
calibration = 90
test = 90
near_duplicate = 0.98
[encoder]
model = "{encoder}"
max_length = 32
[train]
epochs = 8
batch_size = 8
learning_rate = 5e-3
[evaluate]
bootstrap = 200
{extra}
""",
        encoding="utf-8",
    )
    return folder / "recipe.toml"


def hybrid_recipe(*words: str, cwd: Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run `python -m hybrid.recipe` as a user does."""
    command = [sys.executable, "-m", "hybrid.recipe", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, deberta: Path) -> Path:
    """The folder of a finished run of a tiny DeBERTa-v3, made by the command line."""

    def run(folder: Path) -> None:
        recipe = write_project(folder / "dishes", deberta)
        done = hybrid_recipe(str(recipe), "--runs", str(folder / "runs"), cwd=folder)
        assert done.returncode == 0, done.stderr + done.stdout

    return made_once(tmp_path_factory, "finished", run) / "runs" / "dishes" / "default"
