"""The benchmark of the data stages goes through all of them, at any number of rows."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from tests.corpus import texts_and_gold

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "growth.py"
STAGES = ["start", "split", "verify", "clean", "synthesize", "train"]


@pytest.mark.slow
def test_every_stage_is_measured_and_the_peak_is_judged(tmp_path: Path) -> None:
    with (tmp_path / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows(zip(*texts_and_gold(100), strict=True))
    command = [sys.executable, SCRIPT, tmp_path / "rows.csv", "--rows", "600", "--keep", tmp_path / "kept"]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)
    lines = ended.stdout.splitlines()
    table = lines[lines.index("") + 2 : -1]
    assert [line.split()[0] for line in table] == STAGES
    assert all(float(figure) >= 0 for line in table for figure in line.split()[1:])
    assert lines[-1].startswith("bar growth_peak_gib: ")
    assert lines[-1].endswith(" at 600 rows (wanted <= 8) ok")
    assert len((tmp_path / "kept" / "600" / "rows.csv").read_text(encoding="utf-8").splitlines()) == 601
