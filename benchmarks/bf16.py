"""Training in bf16 beside fp32 on this machine: rows a second, and the accuracy of the sentiment recipe.

`python benchmarks/bf16.py [--seeds N]`. First the timed trial that `train.precision = "auto"` makes, and what it picks. Where that
is bf16, the recipe is then trained at both precisions for each seed, one after the other; rows a second are the rows of all
epochs over the seconds of the stage train. Elsewhere the benchmark ends after the trial and says so. The target of speed is
for processors with AMX; that of accuracy for all.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import msgspec
from targets import bar, finish

from hybrid.doctor.training import RECIPE, trial_inputs, trial_precision
from hybrid.machine.processor import processor
from hybrid.recipe_files.find import find_recipe
from hybrid.recipe_files.read import read_recipe

SEEDS = 3
LEAST_RATIO = 1.7
MOST_POINTS = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    options = parser.parse_args()
    here = processor()
    choice = trial_precision(*trial_inputs(read_recipe(find_recipe(RECIPE), profile="", overrides={})))
    seconds = ", ".join(f"{name} {value:.3f} s" for name, value in choice.seconds.items()) or "nothing was timed"
    print(f"{here.name}: the trial picks {choice.precision} ({choice.reason}; {seconds} a step)")
    if choice.precision != "bf16":
        print("skipped: training takes fp32 here")
        return
    with tempfile.TemporaryDirectory() as scratch:
        runs = {
            precision: [trained(precision, seed, Path(scratch)) for seed in range(options.seeds)]
            for precision in ("fp32", "bf16")
        }
    ratio = statistics.median(fast[0] / slow[0] for fast, slow in zip(runs["bf16"], runs["fp32"], strict=True))
    accuracy = {name: statistics.mean(run[1] for run in of_seeds) for name, of_seeds in runs.items()}
    print(f"accuracy, mean of {options.seeds} seeds: fp32 {accuracy['fp32']:.4f}, bf16 {accuracy['bf16']:.4f}")
    if "AMX-BF16" in (here.features or ()):
        bar("bf16_rows_a_second_ratio", round(ratio, 2), f">= {LEAST_RATIO}", ratio >= LEAST_RATIO)
    else:
        print(f"rows a second, bf16 to fp32: {ratio:.2f} (the target of {LEAST_RATIO} is for processors with AMX)")
    lost = accuracy["fp32"] - accuracy["bf16"]
    bar("bf16_accuracy_lost", round(lost, 4), f"<= {MOST_POINTS}", lost <= MOST_POINTS)
    finish()


def trained(precision: str, seed: int, runs: Path) -> tuple[float, float]:
    """Run the recipe; return the rows a second of its training and the accuracy on test."""
    from hybrid.recipe import main as recipe

    name = f"{precision}-{seed}"
    settings = ["--set", f"seed={seed}", "--set", f'train.precision="{precision}"']
    status = recipe([RECIPE, "--runs", str(runs), "--name", name, *settings])
    if status:
        sys.exit(status)
    folder = runs / RECIPE / name
    summary = msgspec.json.decode((folder / "summary.json").read_bytes())
    n_epochs = len((folder / "train" / "history.jsonl").read_bytes().splitlines())
    rows = summary["rows"]["train"] * n_epochs / summary["seconds"]["train"]
    return rows, summary["test"][summary["served"]]["accuracy"]


if __name__ == "__main__":
    main()
