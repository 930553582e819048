"""repair: learn from a few trusted rows how each source errs, and re-estimate the labels of all rows."""

from collections.abc import Sequence

import numpy as np

from hybrid.data.folds import stratified_folds
from hybrid.labels.conditional_logit import fit_weights, log_probs_of
from hybrid.labels.estimate import LabelEstimate
from hybrid.labels.evidence import TextViews, evidence, text_views
from hybrid.labels.method_selection import simplest_within_error
from hybrid.labels.sources import LabelSource

PLAIN = ("_says", "_sure", "_text")
"""The kinds of evidence in the plain model; the full model uses all kinds, including those learned from trusted rows."""


def repair(
    embeddings: np.ndarray,
    sources: Sequence[LabelSource],
    n_labels: int,
    trusted: np.ndarray,
    gold: np.ndarray,
    *,
    folds: int,
    seed: int,
) -> LabelEstimate:
    """Estimate P(gold | text, labels from all sources) for all rows, fitted on the rows whose `gold` [m] is known.

    `trusted` [m] holds the row numbers of `gold`. The evidence about a trusted row (few-shot classifier, confusion
    matrices) comes from the trusted rows of the other folds; the evidence about any other row comes from all trusted
    rows. There are two models: the plain one uses the sources' labels, confidences and classifiers, the full one uses
    all evidence. The plain one is used unless the full one's cross-validated loss is lower by more than a standard error.
    """
    view_folds = np.random.default_rng(seed).permutation(len(embeddings)) % folds
    views = text_views(embeddings, sources, n_labels, view_folds)
    fold = stratified_folds(gold, folds, seed)
    of_all = evidence(embeddings, sources, views, trusted, gold)
    of_trusted = _fair_evidence(embeddings, sources, views, trusted, gold, fold)
    plain = [i for i, name in enumerate(of_all.names) if name.endswith(PLAIN)]
    kinds = {"plain": plain, "full": list(range(len(of_all.names)))}
    held_out = {name: _cross_validated(of_trusted[..., kind], gold, fold) for name, kind in kinds.items()}
    losses = {name: -log_probs[np.arange(len(gold)), gold] for name, log_probs in held_out.items()}
    model = list(kinds)[simplest_within_error([-loss for loss in losses.values()])]
    weights = fit_weights(of_trusted[..., kinds[model]], gold)
    probs = np.exp(log_probs_of(of_all.values[..., kinds[model]], weights))
    return LabelEstimate(
        method="repair",
        name="repair",
        label=probs.argmax(axis=1),
        quality=probs.max(axis=1),
        probs=probs,
        kept=np.ones(len(probs), dtype=bool),
        weights={of_all.names[i]: float(weight) for i, weight in zip(kinds[model], weights, strict=True)},
        held_out_probs=np.exp(held_out[model]),
        report={"model": model, "cv_nll": {name: round(float(loss.mean()), 4) for name, loss in losses.items()}},
    )


def _fair_evidence(
    embeddings: np.ndarray,
    sources: Sequence[LabelSource],
    views: TextViews,
    trusted: np.ndarray,
    gold: np.ndarray,
    fold: np.ndarray,
) -> np.ndarray:
    """Gather evidence [m, k, d] about each trusted row from the trusted rows of the other folds."""
    by_row: dict[int, np.ndarray] = {}
    for number in np.unique(fold):
        others, rows = fold != number, np.flatnonzero(fold == number)
        about = evidence(embeddings, sources, views, trusted[others], gold[others], rows=trusted[rows])
        by_row |= dict(zip(rows.tolist(), about.values, strict=True))
    return np.stack([by_row[i] for i in range(len(gold))])


def _cross_validated(values: np.ndarray, gold: np.ndarray, fold: np.ndarray) -> np.ndarray:
    log_probs = np.zeros(values.shape[:2])
    for number in np.unique(fold):
        weights = fit_weights(values[fold != number], gold[fold != number])
        log_probs[fold == number] = log_probs_of(values[fold == number], weights)
    return log_probs
