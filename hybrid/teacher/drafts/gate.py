"""The gate of synthesis: a batch of drafts is used in training only if it improves predictions on held-out real rows.

The first test uses logistic regression on frozen embeddings, which takes seconds. Only a batch that passes is tested
with the encoder that will be trained, which may gain less.
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
"""Trains the encoder on rows, under the given run name, and returns the predicted class indices [n] of the texts."""


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Vectors [n, d], class indices [n] and weights [n] of the real training rows with decided labels, or of drafts."""

    vectors: np.ndarray
    targets: np.ndarray
    weights: np.ndarray


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """The effect of adding the drafts on held-out real rows, averaged over the seeds."""

    passed: bool
    reason: str
    drafts: int
    macro_f1: tuple[float, float]
    """Macro-F1 without and with the drafts."""
    recall: dict[str, tuple[float, float]]
    """Recall of each minority class, without and with the drafts."""
    recall_gain: float
    """The mean gain over the rows of the minority classes."""
    recall_gain_p: float
    """One-sided p-value of the sign test on the minority rows whose hit rate changed."""
    seeds: int
    folds: int
    """The number of folds, one of which is held out at a time."""


def gate(
    real: Batch, drafts: Batch, labels: Sequence[str], minority: Sequence[str], *, balanced: bool, seed: int
) -> Gate:
    """Decide with logistic regression on frozen embeddings whether a batch of drafts should train.

    The regression is cross-fitted on the real rows twice, without and with all drafts, and scored on the held-out real
    rows against their decided labels. This is repeated `SEEDS` times with new folds. The batch passes if the mean
    macro-F1 does not fall and the recall on minority rows rises: among minority rows whose hit rate over the seeds
    changed, significantly more gain than lose (one-sided sign test at `LEVEL`; exact binomial, because a normal
    approximation is too lenient on a few rows). `balanced` weights the classes equally, as training does if the recipe
    asks for it.
    """
    pairs = [_predict_twice(real, drafts, balanced=balanced, seed=seed + number) for number in range(SEEDS)]
    return _gate(real.targets, np.array(pairs), labels, minority, n_drafts=len(drafts.targets), folds=FOLDS)


def encoder_gate(
    real: Sequence[TrainingRow],
    drafts: Sequence[TrainingRow],
    labels: Sequence[str],
    minority: Sequence[str],
    *,
    fit_predict: FitPredict,
    seed: int,
) -> Gate:
    """Decide with the encoder itself whether a batch of drafts should train.

    The rule is that of `gate`, with the encoder fine-tuned once without and once with all drafts and a single fold held
    out: training on fewer rows would make drafts look more useful than they are. Both gates score against the decided
    labels. If the author of the drafts helped to decide them, both may favour its drafts.
    """
    targets = np.array([row.label for row in real])
    fit, held_out = next(_folds(targets, FOLDS, seed))
    train_rows, texts = [real[i] for i in fit], [real[i].text for i in held_out]
    predicted = np.zeros((1, 2, len(texts)), dtype=int)
    for arm, (name, rows) in enumerate((("without", train_rows), ("with", [*train_rows, *drafts]))):
        classes = {row.label for row in rows}
        # A fold may lack a rare class; with one class left there is nothing to train.
        predicted[0, arm] = fit_predict(name, rows, texts) if len(classes) > 1 else min(classes)
    return _gate(targets[held_out], predicted, labels, minority, n_drafts=len(drafts), folds=FOLDS)


def _gate(
    targets: np.ndarray,
    predicted: np.ndarray,
    labels: Sequence[str],
    minority: Sequence[str],
    *,
    n_drafts: int,
    folds: int,
) -> Gate:
    """Apply the rule of the gate to predicted class indices of held-out rows, shape [seeds, without/with drafts, n]."""
    arms = predicted[:, 0], predicted[:, 1]
    scores = [float(np.mean([macro_f1(targets, of_seed, len(labels)) for of_seed in arm])) for arm in arms]
    hit_rates = [(arm == targets).mean(axis=0) for arm in arms]
    rare = np.isin(targets, [labels.index(name) for name in minority])
    gain = hit_rates[1][rare] - hit_rates[0][rare] if rare.any() else np.zeros(1)
    p = _sign_test(int((gain > 0).sum()), int((gain < 0).sum()))
    reason = _reason(scores, float(gain.mean()), p)
    return Gate(
        passed=not reason,
        reason=reason,
        drafts=n_drafts,
        macro_f1=(round(scores[0], 6), round(scores[1], 6)),
        recall={name: _recalls(hit_rates, targets == labels.index(name)) for name in minority},
        recall_gain=round(float(gain.mean()), 6),
        recall_gain_p=round(p, 6),
        seeds=len(predicted),
        folds=folds,
    )


def _folds(targets: np.ndarray, n_folds: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the indices of the rows to fit on and of those held out, fold by fold."""
    return iter(stratified_splitter(targets, n_folds, seed=seed).split(targets, targets))


def _predict_twice(real: Batch, drafts: Batch, *, balanced: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Cross-fit predicted class indices [n] of the real rows, without and with the drafts."""
    predicted = np.zeros((2, len(real.targets)), dtype=int)
    for fit, held_out in _folds(real.targets, FOLDS, seed):
        fit_batch = Batch(vectors=real.vectors[fit], targets=real.targets[fit], weights=real.weights[fit])
        for arm, batch in enumerate((fit_batch, _joined(fit_batch, drafts))):
            predicted[arm, held_out] = _predict(batch, real.vectors[held_out], balanced=balanced)
    return predicted[0], predicted[1]


def _predict(batch: Batch, vectors: np.ndarray, *, balanced: bool) -> np.ndarray:
    """Predict class indices [n]; without a rare class, a fold may hold a single class."""
    if len(np.unique(batch.targets)) == 1:
        return np.full(len(vectors), batch.targets[0])
    return np.asarray(fitted(batch, balanced=balanced).predict(vectors))


def fitted(batch: Batch, *, balanced: bool) -> LogisticRegression:
    """Fit logistic regression on a batch."""
    model = LogisticRegression(max_iter=1000, class_weight="balanced" if balanced else None)
    return model.fit(batch.vectors, batch.targets, sample_weight=batch.weights)


def _joined(left: Batch, right: Batch) -> Batch:
    names = ("vectors", "targets", "weights")
    return Batch(**{name: np.concatenate([getattr(left, name), getattr(right, name)]) for name in names})


def _recalls(hit_rates: Sequence[np.ndarray], rows: np.ndarray) -> tuple[float, float]:
    without, with_drafts = (float(arm[rows].mean()) if rows.any() else 0.0 for arm in hit_rates)
    return round(without, 6), round(with_drafts, 6)


def _sign_test(n_gain: int, n_lose: int) -> float:
    n_changed = n_gain + n_lose
    return float(binomtest(n_gain, n_changed, alternative="greater").pvalue) if n_changed else 1.0


def _reason(scores: Sequence[float], gain: float, p: float) -> str:
    """Explain why a batch does not pass; empty if it passes."""
    if scores[1] < scores[0]:
        return f"macro-F1 on held-out real rows falls from {scores[0]:.4f} to {scores[1]:.4f}"
    if gain <= 0 or p > LEVEL:
        return f"recall on minority rows changes by {gain:+.4f}, which is not clearly a rise (p = {p:.3f})"
    return ""
