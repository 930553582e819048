"""Does the threshold of escalation keep its promise, and does the naive threshold?

`python benchmarks/guarantee.py [RUN_DIR]`, by default the sentiment run. The exported model's logits on the
calibration and the test rows of that finished run are pooled and dealt again 200 times, into as many
calibration rows as the run had and the rest. Each time the probabilities are calibrated and the thresholds
set on the one part, and the accuracy of what they keep is measured on both of these:

- held out: the rows that were not drawn. This is the harsh reading, and the bar. The promise is about the
  population, and these rows are a small sample of it, whose own noise counts as misses here; worse, what
  was drawn is missing from them, so that a lucky draw leaves an unlucky rest.
- pool: all rows, taken as the population that the calibration rows were drawn from (without replacement).

A split misses where that accuracy is below the target. A split that keeps nothing promises nothing and cannot
miss; such splits are counted.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from targets import bar, finish

from hybrid.calibration.averaging import cross_fit
from hybrid.calibration.threshold import choose_threshold, naive_threshold
from hybrid.config import CalibrateConfig
from hybrid.files.table import read_rows
from hybrid.runtime.bundle import read_bundle
from hybrid.runtime.calibration import apply
from hybrid.types import Judged, Scored

SPLITS = 200
TARGETS = (0.85, 0.9, 0.95)
DELTA = 0.1
CHOICES = {"ours": choose_threshold, "naive": naive_threshold}


class Outcome(NamedTuple):
    """What one threshold did in one split."""

    kept: float
    missed_held_out: bool
    missed_pool: bool


def main() -> None:
    run_dir = Path(sys.argv[1] if sys.argv[1:] else "runs/sentiment/embedded")
    if not (run_dir / "evaluate" / "judged.jsonl").is_file():
        print(f"skipped: no finished run in {run_dir}; run `make sentiment` first or name one")
        return
    logits, gold, n_calibration = pooled(run_dir)
    outcomes: dict[tuple[str, float], list[Outcome]] = {}
    for seed in range(SPLITS):
        for key, outcome in one_split(logits, gold, n_calibration, seed).items():
            outcomes.setdefault(key, []).append(outcome)
    n_rest = len(gold) - n_calibration
    print(
        f"{SPLITS} splits of {len(gold)} rows into {n_calibration} and {n_rest}, delta {DELTA}, seeds 0 to {SPLITS - 1}"
    )
    print("target  threshold  missed, held out  missed, pool  nothing kept  share kept")
    for (name, target), of_draws in outcomes.items():
        print(
            f"{target:6.2f}  {name:<9}  {np.mean([o.missed_held_out for o in of_draws]):16.3f}"
            f"  {np.mean([o.missed_pool for o in of_draws]):12.3f}  {np.mean([o.kept == 0 for o in of_draws]):12.3f}"
            f"  {np.mean([o.kept for o in of_draws]):10.3f}"
        )
    worst = max(float(np.mean([o.missed_held_out for o in outcomes["ours", target]])) for target in TARGETS)
    bar("guarantee_miss_rate", round(worst, 3), f"<= {DELTA:.2f}, the worst target, held out", worst <= DELTA)
    finish()


def pooled(run_dir: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """Return logits [n, k] and gold indices [n] of calibration, then test rows; and how many are the former."""
    labels = read_bundle(run_dir / "bundle").labels
    scored = read_rows(run_dir / "calibrate" / "scored.jsonl", Scored)
    judged = read_rows(run_dir / "evaluate" / "judged.jsonl", Judged)
    logits = np.array([row.logits for row in [*scored, *judged]])
    names = [*(row.label for row in scored), *(row.gold for row in judged)]
    return logits, np.array([labels.index(name) for name in names]), len(scored)


def one_split(logits: np.ndarray, gold: np.ndarray, n_calibration: int, seed: int) -> dict[tuple[str, float], Outcome]:
    """Return the outcome of each threshold at each target."""
    order = np.random.default_rng(seed).permutation(len(gold))
    drawn, rest = order[:n_calibration], order[n_calibration:]
    config = CalibrateConfig()
    targets = np.eye(logits.shape[1])[gold[drawn]]
    fitted = cross_fit(logits[drawn], targets, config.methods, folds=config.folds, seed=seed)
    confidence, correct = fitted.probs.max(axis=1), fitted.probs.argmax(axis=1) == gold[drawn]
    probs = apply(fitted.calibration, logits)
    right = probs.argmax(axis=1) == gold
    outcomes = {}
    for target in TARGETS:
        for name, choose in CHOICES.items():
            kept = probs.max(axis=1) >= choose(confidence, correct, target=target, delta=DELTA).value
            outcomes[name, target] = Outcome(
                kept=float(kept[rest].mean()),
                missed_held_out=below(right[rest], kept[rest], target),
                missed_pool=below(right, kept, target),
            )
    return outcomes


def below(right: np.ndarray, kept: np.ndarray, target: float) -> bool:
    """Return whether the kept rows' accuracy is below the target; False where none is kept."""
    return bool(kept.any() and right[kept].mean() < target)


if __name__ == "__main__":
    main()
