"""What escalation is worth: accuracy by the share of texts that escalate, over five seeds of the sentiment recipe.

`python benchmarks/cascade.py [RUN_DIR]`. Without a folder the recipe runs with `--seeds 5` in `runs/`: what is finished
there is not done again, and from nothing it takes about half an hour on two cores. With one, the finished seeds in it
are read. The decoder is the recorded one; the least confident rows escalate first. Three answers to what escalates:

- encoder: nobody is asked, the encoder's answer stands;
- decoder: its label takes the place of the encoder's;
- together: what the bundle answers, its probabilities weighed with the vote (`hybrid.runtime.combination`).

All that the weighing knows was fitted on calibration rows; the figures are of the test rows.
"""

import sys
from pathlib import Path

import numpy as np
from targets import bar, finish

from hybrid.files.table import read_rows
from hybrid.runtime.bundle import read_bundle
from hybrid.types import Judged

SEEDS = 5
RUNS = Path("runs")
SHARES = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)
WAYS = ("encoder", "decoder", "together")
LEAST = 0.875
"""The mean accuracy wanted with `AT` of the texts escalated."""
AT = 0.3


def main() -> None:
    if sys.argv[1:]:
        folder = Path(sys.argv[1])
    else:
        from hybrid.recipe import main as recipe

        status = recipe(["sentiment", "--seeds", str(SEEDS), "--runs", str(RUNS)])
        if status:
            sys.exit(status)
        folder = RUNS / "sentiment" / "embedded"
    runs = [run for run in (folder, *(folder / f"seed-{n}" for n in range(1, SEEDS))) if measured(run)]
    if not runs:
        print(
            f"skipped: no finished run in {folder} whose bundle knows its decoder's reliability; run the recipe again"
        )
        return
    curves = np.array([curve(run) for run in runs])
    mean, spread = curves.mean(axis=0), curves.std(axis=0, ddof=1 if len(runs) > 1 else 0)
    print(f"{len(runs)} seeds, {len(judged_of(runs[0]))} test rows each; mean accuracy (standard deviation over seeds)")
    print("escalated  " + "  ".join(f"{way:>14}" for way in WAYS))
    for i, share in enumerate(SHARES):
        print(f"{share:8.0%}   " + "  ".join(f"{mean[i, j]:.4f} ({spread[i, j]:.4f})" for j in range(len(WAYS))))
    by_seed = [round(float(accuracy), 4) for accuracy in curves[:, SHARES.index(AT), 2]]
    print(f"together at {AT:.0%}, by seed: {by_seed}")
    together = mean[:, 2]
    best, parts = float(together.max()), float(max(mean[0, 0], mean[-1, 1]))
    at = float(together[SHARES.index(AT)])
    bar("seeds", len(runs), f"{SEEDS}", len(runs) == SEEDS)
    bar("accuracy_at_30_percent", round(at, 4), f">= {LEAST}", at >= LEAST)
    bar("best_above_both_parts", round(best - parts, 4), "> 0", best > parts)
    finish()


def measured(run: Path) -> bool:
    """Return whether a run is finished, its bundle weighs the decoder, and its test rows were judged with that."""
    if not (run / "evaluate" / "judged.jsonl").is_file() or read_bundle(run / "bundle").decoder is None:
        return False
    return all((row.together is None) == (row.decoder is None) for row in judged_of(run))


def judged_of(run: Path) -> list[Judged]:
    return read_rows(run / "evaluate" / "judged.jsonl", Judged)


def curve(run: Path) -> list[list[float]]:
    """Return the accuracy at each share, by way."""
    rows = judged_of(run)
    order = np.argsort([row.confidence for row in rows], kind="stable")
    right = {
        "encoder": np.array([row.label == row.gold for row in rows]),
        "decoder": np.array([(row.decoder or row.label) == row.gold for row in rows]),
        "together": np.array([(row.together or row.label) == row.gold for row in rows]),
    }
    accuracies = []
    for share in SHARES:
        asked = np.zeros(len(rows), dtype=bool)
        asked[order[: round(share * len(rows))]] = True
        accuracies.append([float(np.where(asked, right[way], right["encoder"]).mean()) for way in WAYS])
    return accuracies


if __name__ == "__main__":
    main()
