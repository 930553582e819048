"""The finished seeds of the sentiment recipe, for benchmarks that only need what they left."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hybrid.files.table import read_rows
from hybrid.runtime.bundle import read_bundle
from hybrid.types import Judged, Scored

SEEDS = 5
RUNS = Path("runs")


class RunLogits(NamedTuple):
    """Logits [n, k] and gold indices [n] of a run's calibration and test rows, with the rows' ids."""

    labels: tuple[str, ...]
    calibration: np.ndarray
    calibration_gold: np.ndarray
    calibration_ids: list[str]
    test: np.ndarray
    test_gold: np.ndarray
    test_ids: list[str]


def finished_seeds(arguments: Sequence[str]) -> list[Path]:
    """Return the folders of the five seeds: those in the run folder named, or in `runs/`, where the recipe runs first."""
    if arguments:
        folder = Path(arguments[0])
    else:
        from hybrid.recipe import main as recipe

        status = recipe(["sentiment", "--seeds", str(SEEDS), "--runs", str(RUNS)])
        if status:
            sys.exit(status)
        folder = RUNS / "sentiment" / "embedded"
    folders = [folder, *(folder / f"seed-{seed}" for seed in range(1, SEEDS))]
    finished = [run for run in folders if (run / "evaluate" / "judged.jsonl").is_file()]
    if not finished:
        sys.exit(f"no finished run in {folder}; name the folder of a sentiment run")
    return finished


def logits_of(folder: Path) -> RunLogits:
    """Read what a finished run left."""
    labels = read_bundle(folder / "bundle").labels
    scored = read_rows(folder / "calibrate" / "scored.jsonl", Scored)
    judged = read_rows(folder / "evaluate" / "judged.jsonl", Judged)
    return RunLogits(
        labels=labels,
        calibration=np.array([row.logits for row in scored]),
        calibration_gold=np.array([labels.index(row.label) for row in scored]),
        calibration_ids=[row.id for row in scored],
        test=np.array([row.logits for row in judged]),
        test_gold=np.array([labels.index(row.gold) for row in judged]),
        test_ids=[row.id for row in judged],
    )
