"""Fits how reliable the decoder is beside the encoder, on calibration rows, for `hybrid.runtime.combination`."""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from hybrid.calibration.calibrators import simplest
from hybrid.data.folds import stratified_folds
from hybrid.evaluation.metrics import nll_by_row
from hybrid.label_sets import index_by_label
from hybrid.runtime.combination import MIN_PROB, Reliability, Weights
from hybrid.types import Vote

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

PRIOR_ROWS = 3.0
"""Pseudo-count: each row of the confusion matrix starts with this many votes, distributed by the decoder's overall
accuracy."""
MIN_VOTES = 30
"""The fewest votes on which a reliability is fitted."""
RIDGE = 1.0
"""The weight of the penalty that pulls the exponents to 1 and the rise to 0, so that few rows change them little."""
MAX_RISE = 8.0
MIN_STATED_SHARE = 0.9
"""Stated confidences are used only if at least this share of the votes has one."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """The fitted reliability and the figures for the report."""

    reliability: Reliability | None
    """None where there were too few votes to fit it."""
    report: dict[str, object]


class _Rows(msgspec.Struct, frozen=True):
    """Rows on which the decoder gave a label."""

    probs: Floats
    """The encoder's probabilities [n, k]."""
    gold: Indices
    votes: Indices
    confidence: Floats
    """The decoder's stated confidence [n]; NaN where it stated none."""

    def subset(self, mask: npt.NDArray[np.bool_]) -> "_Rows":
        return _Rows(self.probs[mask], self.gold[mask], self.votes[mask], self.confidence[mask])


def measure_reliability(
    probs: Floats, gold: Indices, votes: Sequence[Vote], labels: Sequence[str], *, folds: int, seed: int
) -> Measured:
    """Fit how reliable the votes are, from the encoder's out-of-sample `probs` [n, k] and `gold` [n].

    Cross-validated NLL decides whether the votes' stated confidences are used (`calibrators.simplest`). The figures in
    the report are cross-validated too: those of a row come from a fit without that row.
    """
    has_label = np.array([vote.label is not None for vote in votes], dtype=bool)
    position = index_by_label(labels)
    rows = _Rows(
        probs[has_label],
        gold[has_label],
        np.array([position[vote.label] for vote in votes if vote.label is not None], dtype=np.int64),
        np.array([np.nan if v.confidence is None else v.confidence for v in votes if v.label is not None], dtype=float),
    )
    counts: dict[str, object] = {"asked": len(votes), "answered": len(rows.gold)}
    if len(rows.gold) < MIN_VOTES:
        sentence = (
            f"The decoder's answers are not weighed with the encoder's: that needs {MIN_VOTES} answers on calibration "
            f"rows, and there are {len(rows.gold)}."
        )
        return Measured(reliability=None, report=counts | {"sentences": [sentence]})
    model = next(vote.teacher for vote in votes if vote.label is not None)
    tried = _cross_validated(rows, folds=folds, seed=seed)
    losses = {name: nll_by_row(combined, rows.gold) for name, combined in tried.items()}
    reliability = _fitted(rows, model, stated=simplest(losses) == "stated")
    return Measured(reliability=reliability, report=counts | _figures(rows, reliability, tried, labels))


def combined_probs(reliability: Reliability, probs: Floats, votes: Indices, confidence: Floats) -> Floats:
    """Combine the encoder's probabilities [n, k] with the decoder's votes, as `combination.combine` does for one row."""
    weights = [
        reliability.plain if reliability.stated is None or np.isnan(c) else reliability.stated for c in confidence
    ]
    encoder = np.array([weight.encoder for weight in weights])
    rise = np.array([weight.rise for weight in weights])
    deviation = np.where(rise > 0, np.nan_to_num(confidence, nan=reliability.typical) - reliability.typical, 0.0)
    strength = np.array([weight.decoder for weight in weights]) * np.exp(rise * deviation)
    evidence = np.log(np.array(reliability.likelihood))[:, votes].T
    return _normalised(encoder[:, None] * np.log(np.maximum(probs, MIN_PROB)) + strength[:, None] * evidence)


def _cross_validated(rows: _Rows, *, folds: int, seed: int) -> dict[str, Floats]:
    """Compute the combined probabilities [n, k] without and with the stated confidence, out of sample."""
    variants = {"plain": False} | ({"stated": True} if np.isfinite(rows.confidence).mean() > MIN_STATED_SHARE else {})
    tried = {name: np.empty_like(rows.probs) for name in variants}
    fold = stratified_folds(rows.gold, folds, seed)
    for index in np.unique(fold):
        in_fold = fold == index
        held_out = rows.subset(in_fold)
        for name, stated in variants.items():
            fitted = _fitted(rows.subset(~in_fold), "", stated=stated)
            tried[name][in_fold] = combined_probs(fitted, held_out.probs, held_out.votes, held_out.confidence)
    return tried


def _fitted(rows: _Rows, model: str, *, stated: bool) -> Reliability:
    likelihood = _likelihood(rows)
    typical = float(np.nanmean(rows.confidence)) if stated else 0.0
    return Reliability(
        model=model,
        likelihood=tuple(map(tuple, likelihood.round(6).tolist())),
        plain=_weights(rows, likelihood, None),
        stated=_weights(rows, likelihood, np.nan_to_num(rows.confidence - typical)) if stated else None,
        typical=round(typical, 6),
        accuracy=round(float((rows.votes == rows.gold).mean()), 6),
        n_rows=len(rows.gold),
    )


def _likelihood(rows: _Rows) -> Floats:
    """Estimate the smoothed probability of each vote (column) given the right label (row) [k, k]."""
    n_labels = rows.probs.shape[1]
    counts = np.zeros((n_labels, n_labels))
    np.add.at(counts, (rows.gold, rows.votes), 1)
    # One extra right vote and one wrong vote, so that no vote is impossible.
    accuracy = (np.trace(counts) + 1) / (counts.sum() + 2)
    prior = np.full((n_labels, n_labels), (1 - accuracy) / max(1, n_labels - 1))
    np.fill_diagonal(prior, accuracy)
    return np.asarray((counts + PRIOR_ROWS * prior) / (counts.sum(axis=1, keepdims=True) + PRIOR_ROWS))


def _weights(rows: _Rows, likelihood: Floats, deviation: Floats | None) -> Weights:
    """Fit the exponents with the lowest penalised NLL.

    `deviation` [n] is the stated confidence of each vote minus the typical one; None leaves it out.
    """
    log_probs, evidence = np.log(np.maximum(rows.probs, MIN_PROB)), np.log(likelihood)[:, rows.votes].T

    def loss(point: Floats) -> float:
        encoder, decoder, rise = point
        strength = decoder * np.exp(rise * deviation) if deviation is not None else np.full(len(log_probs), decoder)
        combined = _normalised(encoder * log_probs + strength[:, None] * evidence)
        penalty = np.log(encoder) ** 2 + np.log(decoder) ** 2 + (rise / MAX_RISE) ** 2
        return float(nll_by_row(combined, rows.gold).sum() + RIDGE * penalty)

    limits = [(0.05, 4.0), (0.05, 4.0), (0.0, MAX_RISE if deviation is not None else 0.0)]
    encoder, decoder, rise = minimize(loss, np.array([1.0, 1.0, 0.0]), bounds=limits, method="L-BFGS-B").x.round(6)
    return Weights(encoder=float(encoder), decoder=float(decoder), rise=float(rise))


def _normalised(scores: Floats) -> Floats:
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True), dtype=np.float64)


def _figures(
    rows: _Rows, reliability: Reliability, tried: dict[str, Floats], labels: Sequence[str]
) -> dict[str, object]:
    combined = tried["stated" if reliability.stated else "plain"]
    encoder, decoder = rows.probs.argmax(axis=1) == rows.gold, rows.votes == rows.gold
    by_label = {
        label: {"rows": int((rows.gold == i).sum()), "right": round(float(decoder[rows.gold == i].mean()), 6)}
        for i, label in enumerate(labels)
        if (rows.gold == i).any()
    }
    both = combined.argmax(axis=1) == rows.gold
    sentence = (
        f"On the {len(rows.gold)} calibration rows that the decoder answered, the encoder is right on "
        f"{encoder.mean():.1%}, the decoder on {decoder.mean():.1%}, and both combined on {both.mean():.1%} "
        "(cross-validated)."
    )
    return {
        "right": by_label,
        "accuracy": {
            name: round(float(x.mean()), 6) for name, x in (("encoder", encoder), ("decoder", decoder), ("both", both))
        },
        "cv_nll": {"encoder": round(float(nll_by_row(rows.probs, rows.gold).mean()), 6)}
        | {name: round(float(nll_by_row(x, rows.gold).mean()), 6) for name, x in tried.items()},
        "confidence_counts": reliability.stated is not None,
        "sentences": [sentence],
    }
