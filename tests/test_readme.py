"""README and documentation are true: their code blocks run, one after the other, in a reader's directory."""

import csv
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.corpus import noisy, texts_and_gold

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
NOT_HERE = ("make ", "source ")
"""How a block begins that sets up a checkout; `benchmarks/first_run.py` measures that."""


def blocks(page: Path) -> list[tuple[str, str]]:
    """The language and the text of each block of a page that is to be run. What must not run is marked `console`, or `py`."""
    found = re.findall(r"^```(bash|python)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [(language, block) for language, block in found if not block.startswith(NOT_HERE)]


def in_order(entries: list[dict[str, Any]]) -> Iterator[str]:
    """The pages of the site in the order of its contents."""
    for entry in entries:
        for target in entry.values():
            yield from [target] if isinstance(target, str) else in_order(target)


NAV = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
PAGES = [page for name in in_order(NAV) if blocks(page := ROOT / "docs" / name)]


def run_blocks(page: Path, folder: Path) -> list[str]:
    """Run every block of a page in a folder; return what each printed."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    outputs = []
    for language, block in blocks(page):
        command = ["bash", "-euc", block] if language == "bash" else [sys.executable, "-c", block]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{page.name}: {block}\n{done.stdout}\n{done.stderr}"
        outputs.append(done.stdout)
    return outputs


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The directory of somebody who has read the README and typed what it says, and what they saw."""
    folder = tmp_path_factory.mktemp("reader")
    texts, gold = texts_and_gold(300)
    with (folder / "reviews.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(zip(texts, noisy(gold, 0.1), strict=True))
    return folder, run_blocks(README, folder)


@pytest.mark.slow
def test_every_code_block_of_the_readme_runs_in_an_empty_directory(reader: tuple[Path, list[str]]) -> None:
    folder, outputs = reader
    demo, trained, embedded, _, served, _ = outputs
    assert '"label":"positive"' in demo
    assert '"label":"good"' in trained
    assert re.fullmatch(r"(\w+ [\d.]+ (True|False)\n){2}", embedded)
    assert re.fullmatch(r"bad (accepted|escalated) [\d.]+\n", served)
    summary = json.loads((folder / "runs/reviews/default/summary.json").read_text())
    assert summary["labels"]["wrong_given"] is None


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_code_block_of_a_page_runs_where_the_readme_was_followed(
    page: Path, reader: tuple[Path, list[str]]
) -> None:
    folder = reader[0]
    outputs = run_blocks(page, folder)
    assert any(outputs)
    if page.name == "embedding.md":
        with (folder / "labelled.csv").open(newline="", encoding="utf-8") as file:
            assert all(row["hybrid_label"] for row in csv.DictReader(file))
    if page.name == "labels.md":
        assert len((folder / "histories.jsonl").read_text(encoding="utf-8").splitlines()) == 300
        with (folder / "looks.csv").open(newline="", encoding="utf-8-sig") as file:
            assert len(list(csv.DictReader(file))) == 20
        assert "20 rows answered" in outputs[-1]


def test_the_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"`?\bmake ([a-z][\w-]*)", README.read_text(encoding="utf-8")))
    assert named >= {"setup", "sentiment", "docs"}
    assert all(f"\n{name}: " in makefile for name in named)


def test_the_readme_is_short() -> None:
    text = README.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 130
    assert len(text.split()) <= 1_100
