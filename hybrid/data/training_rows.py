"""The rows of the training stage: their targets, the validation rows that choose the epoch, and the class weights."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from sklearn.model_selection import train_test_split

from hybrid.config import TrainConfig
from hybrid.data.quotes import quoted_spans
from hybrid.label_sets import index_by_label, label_matrix, rarest_labels
from hybrid.types import Decision, Draft, Example, Span, Task, Vote

NO_LABEL = -1
"""The class of a multi-label row without any label, for drawing the validation rows."""
ENOUGH_VALIDATION = 250
"""Validation rows that are enough to tell a better epoch from a worse one; the others are worth more in training."""
MOST_VALIDATION = 0.25
"""The largest share of the rows that the validation part may reach in order to hold every class."""


class TrainingRow(msgspec.Struct, frozen=True, kw_only=True):
    """What the loss uses of one row: its text, its target probabilities [k] and its weight."""

    text: str
    label: int
    """The index of the label; with several labels a row, that of its rarest, or `NO_LABEL` if it has none."""
    target: Sequence[float] | np.ndarray
    weight: float
    synthetic: bool = False
    quotes: tuple[tuple[Span, ...], ...] = ()
    """For each reason that quotes the text, the spans that it quotes; empty where none does."""


class _Labelled(msgspec.Struct, frozen=True):
    """A row of the data with the label that it trains."""

    example: Example
    label: str
    probs: tuple[float, ...]
    weight: float


def training_rows(
    rows: Sequence[Example],
    decisions: Sequence[Decision],
    drafts: Sequence[Draft],
    labels: Sequence[str],
    config: TrainConfig,
    *,
    task: Task = "single_label",
    votes: Sequence[Vote] = (),
) -> list[TrainingRow]:
    """Return the rows to train on: those of the data with their decided (or given) labels, then the accepted drafts.

    With several labels a row there are no drafts and no consensus: the decided labels are the whole target. `votes` give
    the spans that their reasons quote (`quotes_of`); votes on other rows than `rows` give nothing.
    """
    labelled: list[_Labelled]
    if config.labels == "given":
        labelled = [_Labelled(row, row.label, (), 1.0) for row in rows]
    else:
        by_id = {decision.id: decision for decision in decisions}
        decided = [(row, by_id[row.id]) for row in rows]
        labelled = [_Labelled(row, d.label, d.probs, d.weight) for row, d in decided if d.weight > 0]
    trained = (
        _rows_of_sets([(row.example.text, row.label, row.weight) for row in labelled], labels, config)
        if task == "multi_label"
        else _rows_of_labels(labelled, labels, config)
    )
    quotes = quotes_of([(row.example, row.label) for row in labelled], votes)
    real = [
        msgspec.structs.replace(row, quotes=of_row) if of_row else row
        for row, of_row in zip(trained, quotes, strict=True)
    ]
    if task == "multi_label":
        return real
    index = index_by_label(labels)
    accepted = [draft for draft in drafts if draft.status == "accepted"]
    written = [_training_row(d.text, index[d.label], (), 1.0, len(labels), config) for d in accepted]
    return real + [msgspec.structs.replace(row, synthetic=True) for row in written]


def quotes_of(labelled: Sequence[tuple[Example, str]], votes: Sequence[Vote]) -> list[tuple[tuple[Span, ...], ...]]:
    """For each row with its label, the spans that each reason for that label quotes of its text.

    A reason for another label than the one that trains argues against it, so that what it quotes is no evidence. The
    quotes of one reason stay apart from another's: where reasons differ a word is evidence to a degree.
    """
    of_row: Mapping[str, list[Vote]] = defaultdict(list)
    for vote in votes:
        of_row[vote.id].append(vote)
    return [
        tuple(
            spans
            for vote in of_row.get(row.id, ())
            if vote.status == "ok" and vote.label == label and (spans := quoted_spans(row.text, vote.rationale).spans)
        )
        for row, label in labelled
    ]


def _rows_of_labels(labelled: Sequence[_Labelled], labels: Sequence[str], config: TrainConfig) -> list[TrainingRow]:
    index = index_by_label(labels)
    return [
        _training_row(row.example.text, index[row.label], row.probs, row.weight, len(labels), config)
        for row in labelled
    ]


def _training_row(
    text: str, label: int, probs: Sequence[float], weight: float, n_labels: int, config: TrainConfig
) -> TrainingRow:
    hard = np.zeros(n_labels)
    hard[label] = 1.0
    target = (1 - config.soft_labels) * hard + config.soft_labels * np.asarray(probs) if len(probs) else hard
    target = (1 - config.label_smoothing) * target + config.label_smoothing / n_labels
    # Single precision, as in the loss: with a thousand labels the targets are the largest table of the stage.
    return TrainingRow(
        text=text, label=label, target=target.astype(np.float32), weight=weight if config.row_weights else 1.0
    )


def _rows_of_sets(
    labelled: Sequence[tuple[str, str, float]], labels: Sequence[str], config: TrainConfig
) -> list[TrainingRow]:
    """Return multi-label rows; smoothing moves the target of each label towards one half."""
    joined = [label for _, label, _ in labelled]
    index = index_by_label(labels)
    targets = label_matrix(joined, labels).astype(np.float32)
    targets = (1 - config.label_smoothing) * targets + np.float32(config.label_smoothing / 2)
    return [
        TrainingRow(
            text=text,
            label=index.get(rarest, NO_LABEL),
            target=target,
            weight=weight if config.row_weights else 1.0,
        )
        for (text, _, weight), rarest, target in zip(labelled, rarest_labels(joined), targets, strict=True)
    ]


def hold_out(
    rows: Sequence[TrainingRow], config: TrainConfig, seed: int
) -> tuple[list[TrainingRow], list[TrainingRow]]:
    """Return the rows to fit on, and real rows to choose the epoch on, stratified if the classes allow it."""
    real = [row for row in rows if not row.synthetic]
    classes = [row.label for row in real]
    counts = Counter(classes)
    n_validation = min(max(1, round(config.validation * len(real))), ENOUGH_VALIDATION)
    can_hold_all = len(counts) <= max(n_validation, MOST_VALIDATION * len(real))
    if can_hold_all:
        n_validation = max(n_validation, len(counts))
    stratify = classes if can_hold_all and min(counts.values()) > 1 else None
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
    """Return the weight of each class, shape [k], scaled so that the mean over the rows is 1.

    With several labels a row a weight applies to the rows that have the label, and the mean is over all labels given.
    """
    counts = label_counts(rows, n_labels, task)
    power = {"none": 0.0, "sqrt": 0.5, "balanced": 1.0}[config.class_weights]
    weights = np.maximum(counts, 1) ** -power
    return np.asarray(weights * counts.sum() / (weights * counts).sum())
