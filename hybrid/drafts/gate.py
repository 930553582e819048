"""The gate of synthesis: a batch of drafts trains only where it helps to tell real rows apart."""

from collections.abc import Sequence

import msgspec
import numpy as np
from scipy.stats import binomtest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from hybrid.evaluation.metrics import macro_f1

SEEDS = 5
FOLDS = 5
LEVEL = 0.05
REFUSED = "the batch is refused: "
"""How the reason of a draft begins that passed every check of its own."""


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
    seeds: int = SEEDS
    folds: int = FOLDS


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
    without, with_drafts = (np.array([pair[side] for pair in pairs]) for side in (0, 1))
    scores = [
        float(np.mean([macro_f1(real.targets, said, len(labels)) for said in arm])) for arm in (without, with_drafts)
    ]
    hits = [(arm == real.targets).mean(axis=0) for arm in (without, with_drafts)]
    rare = np.isin(real.targets, [labels.index(name) for name in minority])
    gain = hits[1][rare] - hits[0][rare] if rare.any() else np.zeros(1)
    p = _sign_test(int((gain > 0).sum()), int((gain < 0).sum()))
    reason = _reason(scores, float(gain.mean()), p)
    return Gate(
        passed=not reason,
        reason=reason,
        drafts=len(drafts.targets),
        macro_f1=(round(scores[0], 6), round(scores[1], 6)),
        recall={name: _recalls(hits, real.targets == labels.index(name)) for name in minority},
        recall_gain=round(float(gain.mean()), 6),
        recall_gain_p=round(p, 6),
    )


def _predict_twice(real: Batch, drafts: Batch, *, balanced: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return held-out class indices [n] of the real rows, without and with the drafts."""
    said = np.zeros((2, len(real.targets)), dtype=int)
    fewest = int(np.bincount(real.targets)[np.unique(real.targets)].min())
    splitter = StratifiedKFold(max(2, min(FOLDS, fewest)), shuffle=True, random_state=seed)
    for fit, held_out in splitter.split(real.vectors, real.targets):
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
