"""The gate of synthesis: a batch of drafts trains only where it helps to tell real rows apart.

Two students are asked in turn: a regression on frozen embeddings, which costs seconds, and, where that gains, the
encoder that will be trained, which may gain less.
"""

from collections.abc import Callable, Iterator, Sequence

import msgspec
import numpy as np
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression

from hybrid.data.folds import stratified_splitter
from hybrid.data.training_rows import TrainingRow
from hybrid.evaluation.metrics import macro_f1

SEEDS = 5
FOLDS = 5
LEVEL = 0.05
FitPredict = Callable[[str, Sequence[TrainingRow], Sequence[str]], np.ndarray]
"""Trains the encoder on rows, under a name of its own, and returns its class indices [n] of the texts."""


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Vectors [n, d], class indices [n] and weights [n]: of the real training rows as decided, or of drafts."""

    vectors: np.ndarray
    targets: np.ndarray
    weights: np.ndarray


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """What adding the drafts did to held-out real rows: means over the seeds, with bounds."""

    passed: bool
    reason: str
    drafts: int
    macro_f1: tuple[float, float]
    """Without and with the drafts."""
    recall: dict[str, tuple[float, float]]
    """The same by minority class."""
    recall_gain: float
    """The mean over the minority classes' rows."""
    recall_gain_p: float
    """How likely as many minority rows would gain, of those that gain or lose, if the drafts did nothing."""
    seeds: int
    folds: int
    """Into how many parts the rows were dealt, one of them held out at a time."""


def gate(
    real: Batch, drafts: Batch, labels: Sequence[str], minority: Sequence[str], *, balanced: bool, seed: int
) -> Gate:
    """Return whether a batch of drafts earns its place.

    Logistic regression on frozen embeddings is cross-fitted on the real rows, once on the folds alone and once on the
    folds and all drafts, and judged on the real rows held out, against their decided labels; `SEEDS` times, each with
    folds of its own. The batch passes where the mean macro-F1 does not fall and the recall on minority rows rises: of
    the rows that are found more often, or less, over the seeds, more gain than lose, by a one-sided sign test at
    `LEVEL` (exact binomial: on a few rare rows a normal approximation calls luck a rise). `balanced` weighs the classes
    evenly, as training does where the recipe asks for it.
    """
    pairs = [_predict_twice(real, drafts, balanced=balanced, seed=seed + number) for number in range(SEEDS)]
    return _judged(real.targets, np.array(pairs), labels, minority, n_drafts=len(drafts.targets), folds=FOLDS)


def encoder_gate(
    real: Sequence[TrainingRow],
    drafts: Sequence[TrainingRow],
    labels: Sequence[str],
    minority: Sequence[str],
    *,
    fit_predict: FitPredict,
    seed: int,
) -> Gate:
    """Return whether a batch of drafts earns its place with the encoder that it is to train.

    As `gate`, with the encoder fine-tuned once without and once with all drafts, and one fold alone held out: to train on
    fewer rows would make drafts look more useful than they will be. The labels that judge are the decided ones, here as
    there: where the author of the drafts had a part in deciding them, both see its idea of the class and not the truth.
    """
    targets = np.array([row.label for row in real])
    fit, held_out = next(_folds(targets, FOLDS, seed))
    known, asked = [real[i] for i in fit], [real[i].text for i in held_out]
    said = np.zeros((1, 2, len(asked)), dtype=int)
    for side, (name, rows) in enumerate((("without", known), ("with", [*known, *drafts]))):
        classes = {row.label for row in rows}
        # The fold may lack a class of few rows, and what knows one class alone needs no training.
        said[0, side] = fit_predict(name, rows, asked) if len(classes) > 1 else min(classes)
    return _judged(targets[held_out], said, labels, minority, n_drafts=len(drafts), folds=FOLDS)


def _judged(
    targets: np.ndarray,
    said: np.ndarray,
    labels: Sequence[str],
    minority: Sequence[str],
    *,
    n_drafts: int,
    folds: int,
) -> Gate:
    """Return the judgement on held-out class indices, shape [seeds, 2, n]: without and with the drafts."""
    arms = said[:, 0], said[:, 1]
    scores = [float(np.mean([macro_f1(targets, one, len(labels)) for one in arm])) for arm in arms]
    hits = [(arm == targets).mean(axis=0) for arm in arms]
    rare = np.isin(targets, [labels.index(name) for name in minority])
    gain = hits[1][rare] - hits[0][rare] if rare.any() else np.zeros(1)
    p = _sign_test(int((gain > 0).sum()), int((gain < 0).sum()))
    reason = _reason(scores, float(gain.mean()), p)
    return Gate(
        passed=not reason,
        reason=reason,
        drafts=n_drafts,
        macro_f1=(round(scores[0], 6), round(scores[1], 6)),
        recall={name: _recalls(hits, targets == labels.index(name)) for name in minority},
        recall_gain=round(float(gain.mean()), 6),
        recall_gain_p=round(p, 6),
        seeds=len(said),
        folds=folds,
    )


def _folds(targets: np.ndarray, n_folds: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the row numbers to fit on and those held out, fold by fold."""
    return iter(stratified_splitter(targets, n_folds, seed=seed).split(targets, targets))


def _predict_twice(real: Batch, drafts: Batch, *, balanced: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return held-out class indices [n] of the real rows, without and with the drafts."""
    said = np.zeros((2, len(real.targets)), dtype=int)
    for fit, held_out in _folds(real.targets, FOLDS, seed):
        folds = Batch(vectors=real.vectors[fit], targets=real.targets[fit], weights=real.weights[fit])
        for side, batch in enumerate((folds, _joined(folds, drafts))):
            said[side, held_out] = _predict(batch, real.vectors[held_out], balanced=balanced)
    return said[0], said[1]


def _predict(batch: Batch, vectors: np.ndarray, *, balanced: bool) -> np.ndarray:
    """Return class indices [n]; a class so rare that a fold lacks it may leave one class alone."""
    if len(np.unique(batch.targets)) == 1:
        return np.full(len(vectors), batch.targets[0])
    return np.asarray(fitted(batch, balanced=balanced).predict(vectors))


def fitted(batch: Batch, *, balanced: bool) -> LogisticRegression:
    """Return logistic regression on a batch."""
    model = LogisticRegression(max_iter=1000, class_weight="balanced" if balanced else None)
    return model.fit(batch.vectors, batch.targets, sample_weight=batch.weights)


def _joined(one: Batch, other: Batch) -> Batch:
    names = ("vectors", "targets", "weights")
    return Batch(**{name: np.concatenate([getattr(one, name), getattr(other, name)]) for name in names})


def _recalls(hits: Sequence[np.ndarray], rows: np.ndarray) -> tuple[float, float]:
    without, with_drafts = (float(arm[rows].mean()) if rows.any() else 0.0 for arm in hits)
    return round(without, 6), round(with_drafts, 6)


def _sign_test(n_gain: int, n_lose: int) -> float:
    changed = n_gain + n_lose
    return float(binomtest(n_gain, changed, alternative="greater").pvalue) if changed else 1.0


def _reason(scores: Sequence[float], gain: float, p: float) -> str:
    """Return why a batch does not pass; empty where it does."""
    if scores[1] < scores[0]:
        return f"macro-F1 on held-out real rows falls from {scores[0]:.4f} to {scores[1]:.4f}"
    if gain <= 0 or p > LEVEL:
        return f"recall on minority rows changes by {gain:+.4f}, which is not clearly a rise (p = {p:.3f})"
    return ""
