"""repair: learn from a few trusted rows how each source is wrong, and mend the labels of all rows."""

from collections.abc import Sequence

import msgspec
import numpy as np

from hybrid.labels.conditional_logit import fit_weights, log_probs_of
from hybrid.labels.estimate import LabelEstimate
from hybrid.labels.evidence import Evidence, TextViews, evidence, text_views
from hybrid.labels.method_selection import simplest_within_error
from hybrid.labels.sources import LabelSource

PLAIN = ("_says", "_sure", "_text")
"""The evidence of the plain model; the full one has all, what the trusted rows themselves teach included."""


class Repaired(msgspec.Struct, frozen=True, kw_only=True):
    """The repaired labels of all rows, and what a model that never saw a trusted row makes of it, [m, k]."""

    opinion: LabelEstimate
    fair: np.ndarray
    report: dict[str, object]


def repair(
    embeddings: np.ndarray,
    sources: Sequence[LabelSource],
    n_labels: int,
    trusted: np.ndarray,
    gold: np.ndarray,
    *,
    folds: int,
    seed: int,
) -> Repaired:
    """Return P(gold | text, everything said about the row) for all rows, learned where `gold` [m] is known.

    `trusted` [m] are the row numbers of `gold`. The evidence about a trusted row (few-shot classifier, the source's
    confusion matrix) comes from the trusted rows of other folds, that of every other row from all of them. Of two
    models, one with the sources' labels, confidences and classifiers, one with all evidence, the plain one is taken
    unless the full one has the lower cross-validated loss by more than its standard error.
    """
    dealt = np.random.default_rng(seed).permutation(len(embeddings)) % folds
    views = text_views(embeddings, sources, n_labels, dealt)
    fold = deal_evenly(gold, folds, seed)
    of_all = evidence(embeddings, sources, views, trusted, gold)
    of_trusted = _fair_evidence(embeddings, sources, views, trusted, gold, fold)
    plain = [i for i, name in enumerate(of_all.names) if name.endswith(PLAIN)]
    kinds = {"plain": plain, "full": list(range(len(of_all.names)))}
    fair = {name: _cross_validated(of_trusted[..., kind], gold, fold) for name, kind in kinds.items()}
    losses = {name: -log_probs[np.arange(len(gold)), gold] for name, log_probs in fair.items()}
    model = list(kinds)[simplest_within_error([-loss for loss in losses.values()])]
    weights = fit_weights(of_trusted[..., kinds[model]], gold)
    probs = np.exp(log_probs_of(of_all.values[..., kinds[model]], weights))
    return Repaired(
        opinion=_opinion(probs, of_all, kinds[model], weights),
        fair=np.exp(fair[model]),
        report={"model": model, "cv_nll": {name: round(float(loss.mean()), 4) for name, loss in losses.items()}},
    )


def deal_evenly(gold: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Return a fold for each row [m]; the rows of a label are spread over as many folds as they can."""
    order = np.lexsort((np.random.default_rng(seed).random(len(gold)), gold))
    fold = np.empty(len(gold), dtype=int)
    fold[order] = np.arange(len(gold)) % min(folds, len(gold))
    return fold


def _fair_evidence(
    embeddings: np.ndarray,
    sources: Sequence[LabelSource],
    views: TextViews,
    trusted: np.ndarray,
    gold: np.ndarray,
    fold: np.ndarray,
) -> np.ndarray:
    """Return evidence about each trusted row by the trusted rows of the other folds, [m, k, d]."""
    found: dict[int, np.ndarray] = {}
    for one in np.unique(fold):
        known, asked = fold != one, np.flatnonzero(fold == one)
        seen = evidence(embeddings, sources, views, trusted[known], gold[known], rows=trusted[asked])
        found |= dict(zip(asked.tolist(), seen.values, strict=True))
    return np.stack([found[i] for i in range(len(gold))])


def _cross_validated(values: np.ndarray, gold: np.ndarray, fold: np.ndarray) -> np.ndarray:
    log_probs = np.zeros(values.shape[:2])
    for one in np.unique(fold):
        weights = fit_weights(values[fold != one], gold[fold != one])
        log_probs[fold == one] = log_probs_of(values[fold == one], weights)
    return log_probs


def _opinion(probs: np.ndarray, of_all: Evidence, kind: Sequence[int], weights: np.ndarray) -> LabelEstimate:
    return LabelEstimate(
        name="repair",
        label=probs.argmax(axis=1),
        quality=probs.max(axis=1),
        probs=probs,
        kept=np.ones(len(probs), dtype=bool),
        weights={of_all.names[i]: float(weight) for i, weight in zip(kind, weights, strict=True)},
    )
