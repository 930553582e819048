"""How far the decoder can be believed beside the encoder: fitted on calibration rows (`hybrid.runtime.combination`)."""

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from hybrid.calibration.calibrators import simplest, stratified_folds
from hybrid.evaluation.metrics import nll_by_row
from hybrid.runtime.combination import MIN_PROB, Reliability, Weights
from hybrid.types import Vote

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

PRIOR_ROWS = 3.0
"""Rows that each label's votes start with, spread as the decoder's accuracy over all labels has it."""
FEWEST_ROWS = 30
"""Votes below which nothing is fitted."""
RIDGE = 1.0
"""Pulls the exponents to 1 and the rise to 0, so that few rows move them little."""
WIDEST_RISE = 8.0
MOSTLY = 0.9
"""The share of votes that must state a confidence for it to count."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What the bundle keeps of it, None where there were too few votes, and the figures for the report."""

    reliability: Reliability | None
    report: dict[str, object]


class _Rows(msgspec.Struct, frozen=True):
    """Rows on which the decoder gave a label."""

    probs: Floats
    """[n, k], the encoder's."""
    gold: Indices
    votes: Indices
    confidence: Floats
    """[n]; nan where the decoder stated none."""

    def of(self, which: npt.NDArray[np.bool_]) -> "_Rows":
        return _Rows(self.probs[which], self.gold[which], self.votes[which], self.confidence[which])


def measure_reliability(
    probs: Floats, gold: Indices, votes: Sequence[Vote], labels: Sequence[str], *, folds: int, seed: int
) -> Measured:
    """Return how far the votes can be believed, from the encoder's out-of-sample `probs` [n, k] and `gold` [n].

    Whether a vote's own confidence counts is chosen by cross-validated NLL, as `calibrators.simplest` does. The figures
    in the report are cross-validated too: each row's come from a fit that did not see it.
    """
    ok = np.array([vote.label is not None for vote in votes], dtype=bool)
    place = {label: index for index, label in enumerate(labels)}
    rows = _Rows(
        probs[ok],
        gold[ok],
        np.array([place[vote.label] for vote in votes if vote.label is not None], dtype=np.int64),
        np.array([np.nan if v.confidence is None else v.confidence for v in votes if v.label is not None], dtype=float),
    )
    asked: dict[str, object] = {"asked": len(votes), "answered": len(rows.gold)}
    if len(rows.gold) < FEWEST_ROWS:
        said = f"{len(rows.gold)} answers on calibration rows are too few to weigh the decoder by; want {FEWEST_ROWS}"
        return Measured(reliability=None, report=asked | {"sentences": [said]})
    model = next(vote.teacher for vote in votes if vote.label is not None)
    tried = _cross_validated(rows, folds=folds, seed=seed)
    losses = {name: nll_by_row(found, rows.gold) for name, found in tried.items()}
    found = _fitted(rows, model, stated=simplest(losses) == "stated")
    return Measured(reliability=found, report=asked | _figures(rows, found, tried, labels))


def combined_probs(reliability: Reliability, probs: Floats, votes: Indices, confidence: Floats) -> Floats:
    """Return the probabilities [n, k] of encoder and decoder together: `combination.combine` for many rows."""
    weights = [
        reliability.plain if reliability.stated is None or np.isnan(c) else reliability.stated for c in confidence
    ]
    encoder = np.array([one.encoder for one in weights])
    rise = np.array([one.rise for one in weights])
    away = np.where(rise > 0, np.nan_to_num(confidence, nan=reliability.typical) - reliability.typical, 0.0)
    strength = np.array([one.decoder for one in weights]) * np.exp(rise * away)
    evidence = np.log(np.array(reliability.likelihood))[:, votes].T
    return _normalised(encoder[:, None] * np.log(np.maximum(probs, MIN_PROB)) + strength[:, None] * evidence)


def _cross_validated(rows: _Rows, *, folds: int, seed: int) -> dict[str, Floats]:
    """Return the probabilities [n, k] of each way to weigh the votes, every row's from a fit without its fold."""
    ways = {"plain": False} | ({"stated": True} if np.isfinite(rows.confidence).mean() > MOSTLY else {})
    tried = {name: np.empty_like(rows.probs) for name in ways}
    fold = stratified_folds(rows.gold, folds, seed)
    for index in np.unique(fold):
        out = fold == index
        held = rows.of(out)
        for name, stated in ways.items():
            fitted = _fitted(rows.of(~out), "", stated=stated)
            tried[name][out] = combined_probs(fitted, held.probs, held.votes, held.confidence)
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
    """Return the smoothed probability of each vote where a label is right [k, k]."""
    n_labels = rows.probs.shape[1]
    counts = np.zeros((n_labels, n_labels))
    np.add.at(counts, (rows.gold, rows.votes), 1)
    # One row each for right and wrong, so that no vote is impossible.
    right = (np.trace(counts) + 1) / (counts.sum() + 2)
    prior = np.full((n_labels, n_labels), (1 - right) / max(1, n_labels - 1))
    np.fill_diagonal(prior, right)
    return np.asarray((counts + PRIOR_ROWS * prior) / (counts.sum(axis=1, keepdims=True) + PRIOR_ROWS))


def _weights(rows: _Rows, likelihood: Floats, away: Floats | None) -> Weights:
    """Return the exponents with the lowest penalised NLL; `away` [n] is each vote's distance from usual confidence."""
    known, evidence = np.log(np.maximum(rows.probs, MIN_PROB)), np.log(likelihood)[:, rows.votes].T

    def loss(point: Floats) -> float:
        encoder, decoder, rise = point
        strength = decoder * np.exp(rise * away) if away is not None else np.full(len(known), decoder)
        together = _normalised(encoder * known + strength[:, None] * evidence)
        penalty = np.log(encoder) ** 2 + np.log(decoder) ** 2 + (rise / WIDEST_RISE) ** 2
        return float(nll_by_row(together, rows.gold).sum() + RIDGE * penalty)

    limits = [(0.05, 4.0), (0.05, 4.0), (0.0, WIDEST_RISE if away is not None else 0.0)]
    encoder, decoder, rise = minimize(loss, np.array([1.0, 1.0, 0.0]), bounds=limits, method="L-BFGS-B").x.round(6)
    return Weights(encoder=float(encoder), decoder=float(decoder), rise=float(rise))


def _normalised(scores: Floats) -> Floats:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), dtype=np.float64)


def _figures(rows: _Rows, found: Reliability, tried: dict[str, Floats], labels: Sequence[str]) -> dict[str, object]:
    together = tried["stated" if found.stated else "plain"]
    encoder, decoder = rows.probs.argmax(axis=1) == rows.gold, rows.votes == rows.gold
    by_label = {
        label: {"rows": int((rows.gold == i).sum()), "right": round(float(decoder[rows.gold == i].mean()), 6)}
        for i, label in enumerate(labels)
        if (rows.gold == i).any()
    }
    both = together.argmax(axis=1) == rows.gold
    sentence = (
        f"On the {len(rows.gold)} calibration rows that the decoder was asked about, the encoder is right in "
        f"{encoder.mean():.1%}, the decoder in {decoder.mean():.1%}, the two together in {both.mean():.1%} (cross-validated)."
    )
    return {
        "right": by_label,
        "accuracy": {
            name: round(float(x.mean()), 6) for name, x in (("encoder", encoder), ("decoder", decoder), ("both", both))
        },
        "cv_nll": {"encoder": round(float(nll_by_row(rows.probs, rows.gold).mean()), 6)}
        | {name: round(float(nll_by_row(x, rows.gold).mean()), 6) for name, x in tried.items()},
        "confidence_counts": found.stated is not None,
        "sentences": [sentence],
    }
