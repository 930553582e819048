"""Does the threshold keep its promise? 200 random re-splits of calibration and test rows.

`python benchmarks/guarantee.py [RUN]`, by default runs/sentiment/embedded. The bundle's logits on the calibration
and test rows of a finished run are pooled; each re-split calibrates, chooses the threshold on as many
rows as the recipe has for calibration, and looks at the others. A re-split misses where the kept rows
among those others are right less often than the target. That is the harsh count: the others are a
sample too, and their own noise is counted against the promise.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bars import bar, finish

from hybrid.config import CalibrateConfig
from hybrid.escalation import choose_threshold, naive_threshold
from hybrid.runtime.calibration import Threshold, apply
from hybrid.stages.calibrate import cross_fit
from hybrid.table import read_rows
from hybrid.types import Judged, Scored

RESPLITS = 200
FOLDS = 5
TARGETS = (0.85, 0.9, 0.95)
DELTA = 0.1
METHODS = CalibrateConfig().methods
Choose = Callable[..., Threshold]


def main() -> None:
    run = Path(sys.argv[1] if sys.argv[1:] else "runs/sentiment/embedded")
    if not (run / "evaluate" / "judged.jsonl").is_file():
        print(f"skipped: no finished run in {run}; run `make sentiment` first or name one")
        finish()
    logits, gold, n_calibration = pooled(run)
    print(
        f"{RESPLITS} re-splits of {len(gold)} rows: {n_calibration} to calibrate, {len(gold) - n_calibration} to look at"
    )
    kept: dict[tuple[str, float], list[tuple[bool, float]]] = {}
    for seed in range(RESPLITS):
        resplit(logits, gold, n_calibration, seed, kept)
    print(f"{'threshold':<10} {'target':>6} {'missed':>7} {'no promise':>10} {'kept, mean':>10}")
    for (name, target), outcomes in kept.items():
        misses = np.mean([missed for missed, _ in outcomes])
        shares = [share for _, share in outcomes]
        print(
            f"{name:<10} {target:>6.2f} {misses:>7.1%} {np.mean(np.equal(shares, 0)):>10.1%} {np.mean(shares):>10.1%}"
        )
    worst = max(float(np.mean([missed for missed, _ in kept["ours", target]])) for target in TARGETS)
    bar("guarantee_miss_rate_worst_target", round(worst, 4), f"<= {DELTA}", worst <= DELTA)
    finish()


def pooled(run: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """Return logits [n, k], gold indices [n], and how many of the rows were for calibration."""
    scored = read_rows(run / "calibrate" / "scored.jsonl", Scored)
    judged = read_rows(run / "evaluate" / "judged.jsonl", Judged)
    said = [row.label for row in scored] + [row.gold for row in judged]
    labels = sorted(set(said))
    logits = np.array([row.logits for row in scored] + [row.logits for row in judged])
    order = label_order(judged, labels)
    return logits, np.array([order.index(label) for label in said]), len(scored)


def label_order(judged: list[Judged], labels: list[str]) -> list[str]:
    """Return the labels in the order of the probabilities, read off the rows that were judged."""
    place = {row.label: int(np.argmax(row.probs)) for row in judged}
    missing = iter(sorted(set(range(len(labels))) - set(place.values())))
    return sorted(labels, key=lambda label: place[label] if label in place else next(missing))


def resplit(
    logits: np.ndarray,
    gold: np.ndarray,
    n_calibration: int,
    seed: int,
    kept: dict[tuple[str, float], list[tuple[bool, float]]],
) -> None:
    """Calibrate and choose on one part; append whether the other part misses, and the share it keeps."""
    shuffled = np.random.default_rng(seed).permutation(len(gold))
    here, there = shuffled[:n_calibration], shuffled[n_calibration:]
    fitted = cross_fit(logits[here], gold[here], METHODS, folds=FOLDS, seed=seed)
    correct = fitted.probs.argmax(axis=1) == gold[here]
    probs = apply(fitted.calibration, logits[there])
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == gold[there]
    choices: dict[str, Choose] = {"ours": choose_threshold, "naive": naive_threshold}
    for name, choose in choices.items():
        for target in TARGETS:
            threshold = choose(fitted.probs.max(axis=1), correct, target=target, delta=DELTA)
            passed = confidence >= threshold.value
            missed = bool(passed.any() and right[passed].mean() < target)
            kept.setdefault((name, target), []).append((missed, float(passed.mean())))


if __name__ == "__main__":
    main()
