"""The rows of training as the loss sees them, the part of them that chooses the epoch, and the weights of classes."""

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np
from sklearn.model_selection import train_test_split

from hybrid.config import TrainConfig
from hybrid.label_sets import label_matrix, rarest_labels
from hybrid.types import Decision, Draft, Example, Task

NO_LABEL = -1
"""The class by which a multi-label row without any label is dealt."""
ENOUGH_VALIDATION = 250
"""Rows that tell a better epoch from a worse one; training has more use for the others."""
MOST_VALIDATION = 0.25
"""The largest share of the rows to which the validation part grows so that it can hold every class."""


class TrainingRow(msgspec.Struct, frozen=True, kw_only=True):
    """What the loss sees of one row: text, target probabilities [k], weight."""

    text: str
    label: int
    """multi_label: the rarest of its labels, by which the validation rows are dealt; `NO_LABEL` where it has none."""
    target: Sequence[float] | np.ndarray
    weight: float
    synthetic: bool = False


def training_rows(
    rows: Sequence[Example],
    decisions: Sequence[Decision],
    drafts: Sequence[Draft],
    labels: Sequence[str],
    config: TrainConfig,
    *,
    task: Task = "single_label",
) -> list[TrainingRow]:
    """Return the rows to train on: the decided labels (or the given ones) and then the accepted drafts.

    Rows of several labels have no drafts and no consensus: their decided labels are the whole target.
    """
    taken: list[tuple[str, str, tuple[float, ...], float]]
    if config.labels == "given":
        taken = [(row.text, row.label, (), 1.0) for row in rows]
    else:
        by_id = {decision.id: decision for decision in decisions}
        decided = [(row, by_id[row.id]) for row in rows]
        taken = [(row.text, d.label, d.probs, d.weight) for row, d in decided if d.weight > 0]
    if task == "multi_label":
        return _rows_of_sets([(text, label, weight) for text, label, _, weight in taken], labels, config)
    place = {label: index for index, label in enumerate(labels)}
    real = [
        _training_row(text, place[label], probs, weight, len(labels), config) for text, label, probs, weight in taken
    ]
    accepted = [draft for draft in drafts if draft.status == "accepted"]
    written = [_training_row(d.text, place[d.label], (), 1.0, len(labels), config) for d in accepted]
    return real + [msgspec.structs.replace(row, synthetic=True) for row in written]


def _training_row(
    text: str, label: int, probs: Sequence[float], weight: float, n_labels: int, config: TrainConfig
) -> TrainingRow:
    hard = np.zeros(n_labels)
    hard[label] = 1.0
    target = (1 - config.soft_labels) * hard + config.soft_labels * np.asarray(probs) if len(probs) else hard
    target = (1 - config.label_smoothing) * target + config.label_smoothing / n_labels
    # Single precision, as the loss has it: with a thousand labels the targets are the largest table of the stage.
    return TrainingRow(
        text=text, label=label, target=target.astype(np.float32), weight=weight if config.row_weights else 1.0
    )


def _rows_of_sets(
    taken: Sequence[tuple[str, str, float]], labels: Sequence[str], config: TrainConfig
) -> list[TrainingRow]:
    """Return multi-label rows; smoothing draws each label's target towards one half."""
    joined = [label for _, label, _ in taken]
    place = {label: index for index, label in enumerate(labels)}
    targets = label_matrix(joined, labels).astype(np.float32)
    targets = (1 - config.label_smoothing) * targets + np.float32(config.label_smoothing / 2)
    return [
        TrainingRow(
            text=text,
            label=place.get(rarest, NO_LABEL),
            target=target,
            weight=weight if config.row_weights else 1.0,
        )
        for (text, _, weight), rarest, target in zip(taken, rarest_labels(joined), targets, strict=True)
    ]


def hold_out(
    rows: Sequence[TrainingRow], config: TrainConfig, seed: int
) -> tuple[list[TrainingRow], list[TrainingRow]]:
    """Return rows to fit on and real rows to choose the epoch on, stratified where the classes allow it."""
    real = [row for row in rows if not row.synthetic]
    classes = [row.label for row in real]
    counts = Counter(classes)
    n_validation = min(max(1, round(config.validation * len(real))), ENOUGH_VALIDATION)
    even = len(counts) <= max(n_validation, MOST_VALIDATION * len(real))
    if even:
        n_validation = max(n_validation, len(counts))
    stratify = classes if even and min(counts.values()) > 1 else None
    fitting, validation = train_test_split(real, test_size=n_validation, stratify=stratify, random_state=seed)
    return fitting + [row for row in rows if row.synthetic], validation


def label_counts(rows: Sequence[TrainingRow], n_labels: int, task: Task) -> np.ndarray:
    """Return how many rows have each label, integers of shape [k]."""
    if task == "single_label":
        return np.bincount([row.label for row in rows], minlength=n_labels)
    has_label = np.array([np.asarray(row.target) > 0.5 for row in rows])
    return np.asarray(has_label.sum(axis=0))


def class_weights(
    rows: Sequence[TrainingRow], n_labels: int, config: TrainConfig, *, task: Task = "single_label"
) -> np.ndarray:
    """Return a weight a class, shape [k], so that the mean over the rows is 1.

    With several labels a row it is a weight a label on the rows that have it, and the mean is over all labels given.
    """
    counts = label_counts(rows, n_labels, task)
    power = {"none": 0.0, "sqrt": 0.5, "balanced": 1.0}[config.class_weights]
    weights = np.maximum(counts, 1) ** -power
    return np.asarray(weights * counts.sum() / (weights * counts).sum())
