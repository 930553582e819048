"""Estimates the true labels of calibration rows that have no gold label, so that calibration does not learn their noise.

The estimate is a probability for each label of a row. It comes from several labels of the row (annotators, imported
votes) where there are enough, else from how often cleaning corrected the training rows' labels. Where neither is there,
nothing is known about the noise, and the labels stay as given: they must not calibrate.
"""

from collections.abc import Collection, Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt

from hybrid.calibration.calibrators import Fits
from hybrid.label_sets import index_by_label
from hybrid.labels.sources import LabelSource, label_sources
from hybrid.runtime.calibration import apply, softmax
from hybrid.types import Decision, Example, Vote

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]
Basis = Literal["gold", "votes", "confusion", "given"]
"""What is known about the true labels. gold: they are given. votes: several labels a row. confusion: how cleaning corrected
the training rows. given: nothing beside the labels as given, whose noise is unknown."""

MIN_LABELS = 3
"""Labels a row, on average, from which its true label is estimated: two that differ cannot tell which one is wrong."""
MAX_WRONG = 1 / 6
"""The share of wrong labels up to which a confusion matrix serves: of more noise, cleaning finds too small a part."""
PRIOR_ROWS = 1.0
"""Pseudo-count: each label of a confusion matrix starts with so many rows, distributed by the overall share of right ones."""
MAX_STEPS = 200
SMALLEST_CHANGE = 1e-5
"""Expectation maximisation ends when no probability changes by more."""


class EstimatedLabels(msgspec.Struct, frozen=True, kw_only=True):
    """The probability of each label of each row, and what it rests on."""

    targets: Floats
    """[n, k]; one-hot where the row has gold, or where nothing but the given label is known."""
    basis: Basis
    """What the rows without gold rest on; gold where there are none."""
    n_without_gold: int = 0
    labels_per_row: float = 1.0
    """How many labels a row without gold has on average."""
    right: float | None = None
    """The estimated share of the given labels of those rows that are right; None where nothing is known about it."""
    cautious: Floats | None = None
    """A second estimate [n, k] for the threshold, which finds less noise; None where `targets` serve for that too."""

    @property
    def calibrates(self) -> bool:
        """Whether probabilities may be fitted to these labels."""
        return self.basis != "given"

    def correct(self, predicted: Indices) -> Floats:
        """Give the probability [n] that the predicted labels [n] are right, for the threshold and its promise."""
        targets = self.targets if self.cautious is None else self.cautious
        return np.asarray(targets[np.arange(len(predicted)), predicted])


def describe_estimate(estimated: EstimatedLabels, n_rows: int) -> str:
    """Say in the sentences that the report prints what the labels rest on; empty where all are gold."""
    if estimated.basis == "gold":
        return ""
    without = f"{estimated.n_without_gold} of {n_rows} calibration rows have no gold label"
    if estimated.basis == "given":
        known = (
            "how often their labels are right is unknown"
            if estimated.right is None
            else f"cleaning finds {1 - estimated.right:.0%} of such labels wrong, too many for an estimate of the true ones"
        )
        return (
            f"{without}, and {known}. So the probabilities stay as the encoder gives "
            "them, because calibration would learn the noise, and the guarantee of the threshold is about agreement with "
            f"the labels as given. For calibrated probabilities, give gold labels to a few hundred rows (data.gold), or "
            f"{MIN_LABELS} labels or more a calibration row (data.annotators, verify.imports), or a teacher that checks "
            "the training rows."
        )
    source = (
        f"{estimated.labels_per_row:.1f} labels a row"
        if estimated.basis == "votes"
        else "the corrections that cleaning made to the training rows"
    )
    return (
        f"{without}. Their true labels are estimated from {source}: about {estimated.right:.0%} of the given labels are "
        "right. Probabilities and the guarantee of the threshold rest on that estimate."
    )


def gold_labels(rows: Sequence[Example], labels: Sequence[str]) -> EstimatedLabels:
    """Take every row's label for the truth."""
    return EstimatedLabels(targets=_one_hot(_given(rows, labels), len(labels)), basis="gold")


def estimate_labels(
    rows: Sequence[Example],
    labels: Sequence[str],
    logits: Floats,
    *,
    with_gold: Collection[str],
    votes: Sequence[Vote] = (),
    confusion: Floats | None = None,
) -> EstimatedLabels:
    """Estimate the labels of the rows that are not among the ids `with_gold`, whose label is the truth.

    `votes` are imported votes on these rows. `confusion` [k, k] is the probability of each given label by true label,
    `confusion_of` training rows. `logits` [n, k] are the encoder's.
    """
    given = _given(rows, labels)
    targets = _one_hot(given, len(labels))
    unknown = np.array([row.id not in with_gold for row in rows], dtype=bool)
    if not unknown.any():
        return EstimatedLabels(targets=targets, basis="gold")
    without = [row for row, is_unknown in zip(rows, unknown, strict=True) if is_unknown]
    ids = {row.id for row in without}
    sources = label_sources(without, [vote for vote in votes if vote.id in ids], labels)
    per_row = float(np.sum([source.has_label for source in sources], axis=0).mean())
    basis: Basis = "votes" if per_row >= MIN_LABELS else "confusion" if confusion is not None else "given"
    cautious = None
    if basis == "votes":
        targets[unknown] = _from_sources(sources, logits[unknown])
    elif confusion is not None:
        as_given = targets.copy()
        targets[unknown] = _with_encoder(confusion[:, given[unknown]].T, logits[unknown])
        # The confusion holds for a class as a whole, so an encoder that is sure of a wrong label would pass for right.
        cautious = (targets + as_given) / 2
        right = float(targets[unknown, given[unknown]].mean())
        if 1 - right > MAX_WRONG:
            return EstimatedLabels(
                targets=as_given, basis="given", n_without_gold=len(without), labels_per_row=per_row, right=right
            )
    return EstimatedLabels(
        targets=targets,
        basis=basis,
        n_without_gold=len(without),
        labels_per_row=per_row,
        right=float(targets[unknown, given[unknown]].mean()) if basis != "given" else None,
        cautious=cautious,
    )


def confusion_of(decisions: Sequence[Decision], labels: Sequence[str]) -> Floats:
    """Compute the probability of each given label by the label after cleaning [k, k], from training rows."""
    position = index_by_label(labels)
    counts = np.zeros((len(labels), len(labels)))
    for decision in decisions:
        if decision.action != "drop":
            counts[position[decision.label], position[decision.given]] += 1
    return _normalised(counts)


def _from_sources(sources: Sequence[LabelSource], logits: Floats) -> Floats:
    """Average two estimates from the sources' labels: one that ignores the text, and one that asks the encoder.

    The first takes a row's hard text for noise of its labels and so finds too little of the noise: the encoder looks
    underconfident. The second counts the encoder's own opinion and finds too much: it looks overconfident. Half way
    between, both errors about cancel (`benchmarks/calibration.py`).
    """
    estimate, likelihood = dawid_skene(sources, logits.shape[1])
    return np.asarray((estimate + _with_encoder(likelihood, logits)) / 2)


def dawid_skene(sources: Sequence[LabelSource], n_labels: int) -> tuple[Floats, Floats]:
    """Estimate the probability of each row's labels [n, k], and the likelihood of its sources' labels by true label [n, k].

    Each source has a confusion matrix of its own: Dawid and Skene 1979, "Maximum likelihood estimation of observer
    error-rates using the EM algorithm". It starts from the shares of the labels that a row got.
    """
    of_source = [_one_hot(np.where(s.has_label, s.label, 0), n_labels) * s.has_label[:, None] for s in sources]
    targets = np.sum(of_source, axis=0) + 1e-3
    targets /= targets.sum(axis=1, keepdims=True)
    likelihood = np.ones_like(targets)
    for _ in range(MAX_STEPS):
        log_likelihood = np.zeros_like(targets)
        for table in of_source:
            log_likelihood += table @ np.log(_normalised(targets.T @ table)).T
        likelihood = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
        updated = likelihood * targets.mean(axis=0)
        updated /= updated.sum(axis=1, keepdims=True)
        change = np.abs(updated - targets).max()
        targets = updated
        if change < SMALLEST_CHANGE:
            break
    return targets, likelihood


def _with_encoder(likelihood: Floats, logits: Floats) -> Floats:
    """Estimate the labels [n, k] from the likelihood of what was given [n, k] and the encoder's probabilities.

    The encoder is calibrated on the way, by the temperature alone: with more freedom it would explain its own mistakes as
    noise of the labels.
    """
    probs, targets = softmax(logits), np.zeros_like(likelihood)
    for _ in range(MAX_STEPS):
        updated = probs * likelihood
        updated /= updated.sum(axis=1, keepdims=True)
        change = np.abs(updated - targets).max()
        targets = updated
        if change < SMALLEST_CHANGE:
            break
        probs = apply(Fits(logits, targets).of("temperature"), logits)
    return targets


def _normalised(counts: Floats) -> Floats:
    """Turn counts [k, k] into shares of each row, with `PRIOR_ROWS` pseudo-counts."""
    n_labels = len(counts)
    right = float(np.trace(counts) / max(counts.sum(), 1e-12)) if counts.any() else 1.0
    wrong = (1 - right) / max(1, n_labels - 1)
    prior = np.full_like(counts, wrong) + np.eye(n_labels) * (right - wrong) + 1e-6
    smoothed = counts + PRIOR_ROWS * prior
    return np.asarray(smoothed / smoothed.sum(axis=1, keepdims=True))


def _given(rows: Sequence[Example], labels: Sequence[str]) -> Indices:
    position = index_by_label(labels)
    return np.array([position[row.label] for row in rows], dtype=np.int64)


def _one_hot(indices: Indices, n_labels: int) -> Floats:
    return np.asarray(np.eye(n_labels)[indices])
