"""The README is true: its code blocks run, one after the other, in an empty directory."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.corpus import noisy, texts_and_gold

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"^```(bash|python)\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def reviews_csv(folder: Path) -> None:
    """Write the file that the README takes for granted."""
    texts, gold = texts_and_gold(300)
    with (folder / "reviews.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(zip(texts, noisy(gold, 0.1), strict=True))


@pytest.mark.slow
def test_every_code_block_runs_in_an_empty_directory(tmp_path: Path) -> None:
    reviews_csv(tmp_path)
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    outputs = []
    for language, block in BLOCKS:
        if block.startswith("make "):  # what runs this test, and what benchmarks/first_run.py measures
            continue
        command = ["bash", "-euc", block] if language == "bash" else [sys.executable, "-c", block]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        outputs.append(done.stdout)
    assert len(outputs) == 7
    recipe, embed, escalate, _, served, scored, _ = outputs
    assert '"label":"good"' in recipe
    assert re.fullmatch(r"(\w+ [\d.]+ (True|False)\n){2}", embed)
    assert escalate.strip() in ("encoder", "decoder")
    assert re.fullmatch(r"bad (accepted|escalated) [\d.]+\n", served)
    assert "300 rows" in scored
    with (tmp_path / "labelled.csv").open(newline="", encoding="utf-8") as file:
        assert len([row["hybrid_label"] for row in csv.DictReader(file)]) == 300
    summary = json.loads((tmp_path / "runs/reviews/default/summary.json").read_text())
    assert summary["labels"]["wrong_given"] is None
    with (tmp_path / "looks.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 20
    assert len((tmp_path / "receipts.jsonl").read_text(encoding="utf-8").splitlines()) == 300


def test_the_make_targets_of_the_readme_exist() -> None:
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    named = {line.split()[1] for _, block in BLOCKS for line in block.splitlines() if line.startswith("make ")}
    assert named == {"sentiment", "test"}
    assert all(f"\n{name}: " in makefile for name in named)
