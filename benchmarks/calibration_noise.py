"""Calibration without gold: does it learn the noise of the labels, or estimate it?

`python benchmarks/calibration_noise.py [RUN_DIR]`, by default the five seeds of the sentiment run. The gold of the calibration
rows is hidden. In its place stands one rater's label, right less often the higher the noise level: gold is put back on some of
the wrong rows, or wrong labels are added. The rows of a run that did not train are dealt 10 times into calibration rows and
rows that judge, against gold. Compared, for test ECE and the promise of 90 %, are:

- none: probabilities as the encoder gives them
- as given: calibrated to the noisy labels
- confusion: what ships where cleaning of the training rows measured the noise, here of labels of the same noise; where it
  finds too much of it, the probabilities stay as they are
- votes: what ships where three more raters' labels are imported for the calibration rows
- gold: the best that there is, for comparison

A promise is missed where less than 90 % of the kept rows, of all rows of the run, are right.
"""

import json
import sys
from pathlib import Path

import numpy as np
from sentiment_runs import finished_seeds, logits_of
from targets import bar, finish

from hybrid.artifacts import fetch
from hybrid.calibration.averaging import cross_fit
from hybrid.calibration.estimated_labels import EstimatedLabels, confusion_of, estimate_labels
from hybrid.calibration.threshold import choose_threshold
from hybrid.config import CalibrateConfig, CleanConfig
from hybrid.evaluation.metrics import ece
from hybrid.files.table import read_rows
from hybrid.labels.cleaning import clean
from hybrid.runtime.calibration import apply
from hybrid.types import Example, Gold, Vote

LEVELS = (0.1, 0.2, 0.3)
SPLITS = 10
CONFIG = CalibrateConfig()
WAYS = ("none", "as given", "confusion", "votes", "gold")


class Noisy:
    """The rows of one run that did not train, with labels of one noise level, and what cleaning finds of that noise."""

    def __init__(self, folder: Path, level: float) -> None:
        rows = logits_of(folder)
        self.labels = rows.labels
        self.logits = np.concatenate([rows.calibration, rows.test])
        self.gold = np.concatenate([rows.calibration_gold, rows.test_gold])
        self.n_calibration = len(rows.calibration)
        rng = np.random.default_rng(0)
        ids = (*rows.calibration_ids, *rows.test_ids)
        drawn = np.array([rng.permutation(_ratings()[row_id])[:4] for row_id in ids])
        self.raters = drawn[:, 1:]
        self.given = _with_noise(drawn[:, 0], self.gold, level, rng)
        self.confusion = self._confusion(folder, level, rng)

    def _confusion(self, folder: Path, level: float, rng: np.random.Generator) -> np.ndarray:
        rows = [row for row in read_rows(folder / "split" / "rows.jsonl", Example) if row.part == "train"]
        gold_of = {row.id: row.label for row in read_rows(folder / "split" / "gold.jsonl", Gold)}
        index = {label: i for i, label in enumerate(self.labels)}
        given, gold = (
            np.array([index[label] for label in names])
            for names in ([row.label for row in rows], [gold_of[row.id] for row in rows])
        )
        noisy = [
            Example(id=row.id, text=row.text, label=self.labels[label])
            for row, label in zip(rows, _with_noise(given, gold, level, rng), strict=True)
        ]
        embeddings = np.load(folder / "clean" / "embeddings.npy")
        votes = read_rows(folder / "verify" / "votes.jsonl", Vote)
        cleaned = clean(noisy, votes, self.labels, CleanConfig(), embed=lambda _: embeddings, seed=0)
        return confusion_of(cleaned.decisions, self.labels)

    def estimated(self, way: str, drawn: np.ndarray) -> EstimatedLabels:
        """Return what a way of calibrating takes the labels of the drawn rows for."""
        one_hot = np.eye(len(self.labels))
        if way in ("as given", "gold"):
            return EstimatedLabels(targets=one_hot[(self.gold if way == "gold" else self.given)[drawn]], basis="gold")
        rows = [Example(id=str(i), text="", label=self.labels[self.given[i]], part="calibration") for i in drawn]
        votes = [
            Vote(id=str(i), status="ok", label=self.labels[label], teacher=f"rater {n}")
            for i in drawn
            for n, label in enumerate(self.raters[i])
        ]
        return estimate_labels(
            rows,
            self.labels,
            self.logits[drawn],
            with_gold=(),
            votes=votes if way == "votes" else (),
            confusion=self.confusion if way == "confusion" else None,
        )


def main() -> None:
    seeds = finished_seeds(sys.argv[1:])
    print(f"{len(seeds)} seeds, {SPLITS} splits each, target {CONFIG.target}, delta {CONFIG.delta}")
    print(f"{'':<24}    ECE   kept   right of those  promise missed")
    for level in LEVELS:
        runs = [Noisy(folder, level) for folder in seeds]
        print(f"{level:.0%} wrong; cleaning estimates " + ", ".join(f"{1 - _right(run):.1%}" for run in runs))
        errors = {}
        for way in WAYS:
            outcomes = np.array([outcome(run, way, split) for run in runs for split in range(SPLITS)])
            errors[way], missed = outcomes[:, 0].mean(), outcomes[:, 3].mean()
            print(
                f"  {way:<22} {errors[way]:.4f}  {outcomes[:, 1].mean():5.2f}   {np.nanmean(outcomes[:, 2]):14.3f}  {missed:14.2f}",
                flush=True,
            )
            if way in ("confusion", "votes"):
                name = f"{way}_at_{level:.0%}".replace("%", "")
                wanted = f"<= {errors['none']:.4f}, uncalibrated"
                bar(f"ece_{name}", round(errors[way], 4), wanted, errors[way] <= errors["none"])
                bar(f"promise_missed_{name}", round(missed, 2), f"<= {CONFIG.delta}", missed <= CONFIG.delta)
    finish()


def outcome(run: Noisy, way: str, split: int) -> tuple[float, float, float, float]:
    """Return test ECE, the share kept, the accuracy of that, and whether the promise is missed."""
    order = np.random.default_rng(split).permutation(len(run.gold))
    drawn, rest = order[: run.n_calibration], order[run.n_calibration :]
    estimated = run.estimated("as given" if way == "none" else way, drawn)
    methods = CONFIG.methods if way != "none" and estimated.calibrates else ()
    fitted = cross_fit(run.logits[drawn], estimated.targets, methods, folds=CONFIG.folds, seed=split)
    correct = estimated.correct(fitted.probs.argmax(axis=1))
    threshold = choose_threshold(fitted.probs.max(axis=1), correct, target=CONFIG.target, delta=CONFIG.delta)
    probs = apply(fitted.calibration, run.logits)
    kept, right = probs.max(axis=1) >= threshold.value, probs.argmax(axis=1) == run.gold
    accuracy = right[rest][kept[rest]].mean() if kept[rest].any() else np.nan
    missed = bool(kept.any() and right[kept].mean() < CONFIG.target)
    return ece(probs[rest], run.gold[rest]), kept[rest].mean(), accuracy, missed


def _right(run: Noisy) -> float:
    return float(np.bincount(run.gold) / len(run.gold) @ run.confusion.diagonal())


def _with_noise(labels: np.ndarray, gold: np.ndarray, level: float, rng: np.random.Generator) -> np.ndarray:
    """Return the labels with about that share wrong: gold put back on wrong rows, or other labels on right ones."""
    wrong = labels != gold
    share = wrong.mean()
    if level < share:
        return np.where(wrong & (rng.random(len(gold)) > level / share), gold, labels)
    changed = ~wrong & (rng.random(len(gold)) < (level - share) / (1 - share))
    return np.where(changed, (gold + rng.integers(1, 3, len(gold))) % 3, labels)


def _ratings() -> dict[str, list[int]]:
    """Return each tweet's ratings as label indices, by row id."""
    if not _cached:
        lines = (fetch("vader-tweets") / "tweets_anonDataRatings.txt").read_text(encoding="utf-8-sig").split("\n")
        cells = [line.split("\t") for line in lines if line]
        _cached.update({f"tweets/{row[0]}": [1 + int(np.sign(r)) for r in json.loads(row[3])] for row in cells})
    return _cached


_cached: dict[str, list[int]] = {}


if __name__ == "__main__":
    main()
