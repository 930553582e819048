"""Which rule calibrates best, and is what ships as well calibrated as a calibrator fitted on so few rows can be?

`python benchmarks/calibration.py [RUN_DIR]`, by default the sentiment run with its seeds, which is run where it is not there
(from nothing, about half an hour on two cores). Six sets of logits: those of the first sentiment seed; banking77 with heads
trained on gold and on an LLM teacher's labels; gold-market headlines, on TF-IDF and on embeddings; OpenBookQA. All but the first are
frozen features with a logistic head, fitted once. The rows that did not train are dealt 20 times into calibration rows
and rows that judge. Compared are:

- one standard error: a richer method replaces the best so far where its cross-validated NLL is lower by more than that
- lowest NLL: the method of the lowest cross-validated NLL
- average: what ships, none and all methods weighted by likelihood (`hybrid.calibration.averaging`)

The rule was chosen on banking77, headlines and reviews of products; the sentiment runs and OpenBookQA chose nothing.
"""

import csv
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from benchmark_data import banking77_folder, headlines_folder, obqa_folder
from sentiment_runs import finished_seeds, logits_of
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from targets import bar, finish

from hybrid.artifacts import model_folder
from hybrid.calibration.averaging import cross_fit, out_of_sample
from hybrid.calibration.calibrators import Fits, cross_entropy_by_row, simplest
from hybrid.calibration.refitted_limit import refitted_ece
from hybrid.config import CalibrateConfig
from hybrid.encoders.embed import embed
from hybrid.evaluation.metrics import ece, ece_null, nll
from hybrid.runtime.calibration import Calibration, apply

SPLITS = 20
CONFIG = CalibrateConfig()
RULES = ("one standard error", "lowest NLL", "average")
MOST_LOST = 0.005
"""NLL that calibration may cost on any split."""
N_TRAIN = {"banking77": 4000, "headlines": 1500, "obqa": 1500}
N_OBQA = 3300


class LogitSet(NamedTuple):
    """Rows that did not train, with their logits [n, k] and gold indices [n]."""

    name: str
    logits: np.ndarray
    gold: np.ndarray
    n_calibration: int


def main() -> None:
    seeds = finished_seeds(sys.argv[1:])
    sets = [pooled(seeds[0]), *banking77(), *headlines(), *obqa()]
    worst, means = -np.inf, {rule: [] for rule in RULES}
    print(f"{'test NLL less that of no calibration, and ECE; ' + str(SPLITS) + ' splits':<56}NLL    worst     ECE")
    for logit_set in sets:
        outcomes = np.array([one_split(logit_set, seed) for seed in range(SPLITS)])
        n_rows, n_labels = logit_set.logits.shape
        print(f"{logit_set.name}: {n_labels} labels, {logit_set.n_calibration} of {n_rows} rows calibrate")
        print(f"  {'none':<50}{'':>16}  {outcomes[:, 0, 1].mean():8.4f}")
        for i, rule in enumerate(RULES, start=1):
            lost = outcomes[:, i, 0]
            means[rule].append(lost.mean())
            print(f"  {rule:<48}{lost.mean():+8.4f} {lost.max():+8.4f}  {outcomes[:, i, 1].mean():8.4f}")
        worst = max(worst, outcomes[:, RULES.index("average") + 1, 0].max())
    print(f"  {'mean of the sets':<48}" + ", ".join(f"{rule} {np.mean(means[rule]):+.4f}" for rule in RULES))
    bar("nll_lost_on_the_worst_split", round(float(worst), 4), f"<= {MOST_LOST}", worst <= MOST_LOST)
    others = min(float(np.mean(means[rule])) for rule in RULES[:-1])
    ours = float(np.mean(means["average"]))
    bar("mean_nll_of_the_average", round(ours, 4), f"<= {others:.4f}, the better of the other rules", ours <= others)
    within = [within_limit(folder, seed) for seed, folder in enumerate(seeds)]
    bar("seeds_with_ece_within_the_refitted_limit", sum(within), f"{len(seeds)}", all(within))
    finish()


def one_split(logit_set: LogitSet, seed: int) -> list[tuple[float, float]]:
    """Return test NLL, less that of no calibration, and test ECE: of none, then of each rule."""
    order = np.random.default_rng(1000 + seed).permutation(len(logit_set.gold))
    drawn, rest = order[: logit_set.n_calibration], order[logit_set.n_calibration :]
    logits, gold = logit_set.logits, logit_set.gold
    targets = np.eye(logits.shape[1])[gold]
    tried = out_of_sample(logits[drawn], targets[drawn], CONFIG.methods, folds=CONFIG.folds, seed=seed)
    losses = {method: cross_entropy_by_row(probs, targets[drawn]) for method, probs in tried.items()}
    fits = Fits(logits[drawn], targets[drawn])
    chosen = [
        Calibration(),
        fits.of(simplest({method: loss for method, loss in losses.items() if method != "none"})),
        fits.of(min(losses, key=lambda method: losses[method].mean())),
        cross_fit(logits[drawn], targets[drawn], CONFIG.methods, folds=CONFIG.folds, seed=seed).calibration,
    ]
    probs = [apply(calibration, logits[rest]) for calibration in chosen]
    before = nll(probs[0], gold[rest])
    return [(nll(p, gold[rest]) - before, ece(p, gold[rest])) for p in probs]


def within_limit(folder: Path, seed: int) -> bool:
    """Print how well a seed's bundle is calibrated on its test rows as dealt, beside both limits."""
    rows = logits_of(folder)
    targets = np.eye(len(rows.labels))[rows.calibration_gold]
    fitted = cross_fit(rows.calibration, targets, CONFIG.methods, folds=CONFIG.folds, seed=seed)
    limit = refitted_ece(fitted.calibration, rows.calibration, rows.test, seed=seed)
    before, after = apply(Calibration(), rows.test), apply(fitted.calibration, rows.test)
    error = ece(after, rows.test_gold)
    weights = ", ".join(f"{name} {weight:.2f}" for name, weight in fitted.weights.items())
    print(
        f"sentiment seed {seed}: ECE {ece(before, rows.test_gold):.4f} -> {error:.4f}, limit {limit.p95:.4f} refitted, "
        f"{ece_null(after, seed=seed).p95:.4f} perfect; "
        f"NLL {nll(before, rows.test_gold):.4f} -> {nll(after, rows.test_gold):.4f}; {weights}"
    )
    return error <= limit.p95


def pooled(folder: Path) -> LogitSet:
    rows = logits_of(folder)
    logits, gold = (
        np.concatenate([rows.calibration, rows.test]),
        np.concatenate([rows.calibration_gold, rows.test_gold]),
    )
    return LogitSet("sentiment, fine-tuned encoder", logits, gold, len(rows.calibration))


def banking77() -> list[LogitSet]:
    folder = banking77_folder([])
    if folder is None:
        return []
    train, test = ([json.loads(line) for line in (folder / f"{part}.jsonl").open()] for part in ("train", "test"))
    train = _some([row for row in train if row["teacher_label"] is not None], N_TRAIN["banking77"])
    labels = sorted({row["label"] for row in train})
    index = {label: i for i, label in enumerate(labels)}
    features = _tfidf([row["text"] for row in train], [row["text"] for row in test])
    gold = np.array([index[row["label"]] for row in test])
    return [
        LogitSet(name, _head(*features, [index[row[column]] for row in train], len(labels)), gold, 770)
        for name, column in (
            ("banking77, TF-IDF, gold", "label"),
            ("banking77, TF-IDF, a teacher's labels", "teacher_label"),
        )
    ]


def headlines() -> list[LogitSet]:
    folder = headlines_folder([])
    if folder is None:
        return []
    train, test = (list(csv.DictReader((folder / f"{part}.csv").open(encoding="utf-8"))) for part in ("train", "test"))
    train, test = _some(train, N_TRAIN["headlines"]), _some(test, 2500)
    labels = sorted({row["label"] for row in train})
    given, gold = ([labels.index(row["label"]) for row in rows] for rows in (train, test))
    texts, test_texts = ([row["text"] for row in rows] for rows in (train, test))
    return [
        LogitSet(f"headlines, {name}", _head(*features(texts, test_texts), given, len(labels)), np.array(gold), 600)
        for name, features in (("TF-IDF", _tfidf), ("embeddings", _embedded))
    ]


def obqa() -> list[LogitSet]:
    """Each choice is scored by its likeness to the question: one regression for all choices."""
    folder = obqa_folder([])
    if folder is None:
        return []
    rows = [json.loads(line) for part in ("train", "test") for line in (folder / f"{part}.jsonl").open()]
    rows, n_train = _some(rows, N_OBQA), N_TRAIN["obqa"]
    texts = [text for row in rows for text in (row["question"], *(row["choices"][choice] for choice in "ABCD"))]
    embedded = embed(model_folder("packaged:all-MiniLM-L6-v2"), texts, max_length=64).reshape(len(rows), 5, -1)
    likeness = embedded[:, 1:] * embedded[:, :1] * 20
    gold = np.array(["ABCD".index(row["label"]) for row in rows])
    is_right = (gold[:n_train, None] == np.arange(4)).ravel()
    head = LogisticRegression(C=0.3, max_iter=1000).fit(likeness[:n_train].reshape(4 * n_train, -1), is_right)
    logits = head.decision_function(likeness[n_train:].reshape(-1, likeness.shape[2])).reshape(-1, 4)
    return [LogitSet("OpenBookQA, embeddings", logits, gold[n_train:], 600)]


Features = Callable[[Sequence[str], Sequence[str]], tuple[object, object]]


def _tfidf(texts: Sequence[str], test_texts: Sequence[str]) -> tuple[object, object]:
    vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2))
    return vectorizer.fit_transform(texts), vectorizer.transform(test_texts)


def _embedded(texts: Sequence[str], test_texts: Sequence[str]) -> tuple[object, object]:
    folder = model_folder("packaged:all-MiniLM-L6-v2")
    return embed(folder, texts, max_length=64), embed(folder, test_texts, max_length=64)


def _head(train: object, test: object, given: Sequence[int], n_labels: int) -> np.ndarray:
    """Return the test logits [n, k] of a logistic head; a label that no training row has is very improbable."""
    head = LogisticRegression(C=10, max_iter=1000).fit(train, given)
    logits = np.full((len(head.predict(test)), n_labels), -12.0)
    logits[:, head.classes_] = head.predict_log_proba(test)
    return logits


def _some(rows: list[dict], n: int) -> list[dict]:
    return [rows[i] for i in np.random.default_rng(0).permutation(len(rows))[:n]]


if __name__ == "__main__":
    main()
