"""The gate of synthesis: the drafts of a class train only if they beat what costs nothing on held-out real rows.

What costs nothing is training without them, repeating the real rows of the class, and weighting the classes. A screen by
logistic regression on frozen embeddings, which takes seconds, refuses drafts that do harm; the others are tried with the
encoder that will be trained, against every remedy.

The rows that judge carry labels in which the author of the drafts had no part: a trusted label, or the given one where
cleaning confirmed it. A row whose given label cleaning changed judges nobody, because one of the two is wrong.
"""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from hybrid.data.training_rows import TrainingRow
from hybrid.teacher.drafts.frozen import FOLDS, Batch, folds, joined, part_of, predict
from hybrid.teacher.drafts.parents import HALVES, Parents, written_without
from hybrid.teacher.drafts.verdict import CLASS_WEIGHTS, DRAFTS, NOTHING, OVERSAMPLING, Gate, judge

SEEDS = 5


class Training(msgspec.Struct, frozen=True, kw_only=True):
    """One training of the trial: its name, its rows, and whether it weights the classes evenly."""

    name: str
    rows: Sequence[TrainingRow]
    balanced: bool


FitPredict = Callable[[Training, Sequence[str]], np.ndarray]
"""Trains the encoder and returns the predicted class indices [n] of the texts."""


def screen(
    real: Batch,
    drafts: Batch,
    judging: np.ndarray,
    labels: Sequence[str],
    minority: Sequence[str],
    *,
    parents: Parents,
    balanced: bool,
    seed: int,
) -> Gate:
    """Refuse drafts that do harm, by logistic regression on frozen embeddings.

    The regression is cross-fitted on the real rows, without drafts and with those that have no parent among the
    held-out rows, `SEEDS` times with new folds, and scored on the held-out rows against their `judging` labels [n],
    class indices or `NOT_JUDGED`. `balanced` weights the classes evenly, as training does if the recipe asks for it.
    """
    pairs = np.array(
        [_predict_twice(real, drafts, parents, balanced=balanced, seed=seed + number) for number in range(SEEDS)]
    )
    predicted = {NOTHING: pairs[:, 0], DRAFTS: pairs[:, 1]}
    return judge(judging, predicted, labels, minority, n_drafts=len(drafts.targets), folds=FOLDS, screen=True)


def encoder_gate(
    real: Sequence[TrainingRow],
    drafts: Sequence[TrainingRow],
    judging: np.ndarray,
    labels: Sequence[str],
    minority: Sequence[str],
    *,
    parents: Parents,
    half: np.ndarray,
    balanced: bool,
    fit_predict: FitPredict,
) -> Gate:
    """Compare the drafts with every remedy that costs nothing, by the encoder itself.

    The encoder is trained on one `half` [n] of the real rows (`hybrid.teacher.drafts.parents.halves`), once for each
    remedy, and scored on the other against their `judging` labels [n]; then the other way round. Only drafts without a
    parent in the half that judges train. Oversampling repeats real rows of the rare classes, as many as there are drafts
    of each. Where training weights the classes anyway (`balanced`), the weights are no remedy of their own.
    """
    predicted: dict[str, np.ndarray] = {}
    for number in HALVES:
        held_out = np.flatnonzero(half == number)
        rows = [real[i] for i in np.flatnonzero(half != number).tolist()]
        texts = [real[i].text for i in held_out.tolist()]
        usable = [draft for draft, use in zip(drafts, written_without(parents, held_out), strict=True) if use]
        for training in trainings(rows, usable, balanced=balanced):
            own = predicted.setdefault(training.name, np.zeros((1, len(real)), dtype=int))
            classes = {row.label for row in training.rows}
            numbered = msgspec.structs.replace(training, name=f"{training.name.replace(' ', '-')}-{number}")
            # A half may lack a rare class; with one class left there is nothing to train.
            own[0, held_out] = fit_predict(numbered, texts) if len(classes) > 1 else min(classes, default=0)
    return judge(judging, predicted, labels, minority, n_drafts=len(drafts), folds=len(HALVES))


def trainings(rows: Sequence[TrainingRow], drafts: Sequence[TrainingRow], *, balanced: bool) -> list[Training]:
    """Return the trainings that the trial compares, from real rows to fit on and drafts."""
    compared = [
        Training(name=NOTHING, rows=rows, balanced=balanced),
        Training(name=OVERSAMPLING, rows=[*rows, *repeated(rows, drafts)], balanced=balanced),
        Training(name=DRAFTS, rows=[*rows, *drafts], balanced=balanced),
    ]
    return compared if balanced else [*compared, Training(name=CLASS_WEIGHTS, rows=rows, balanced=True)]


def repeated(rows: Sequence[TrainingRow], drafts: Sequence[TrainingRow]) -> list[TrainingRow]:
    """Return as many rows of each class as there are drafts of it, the real ones in turn; none of a class without any.

    They count as synthetic, so that a copy is never a validation row.
    """
    copies: list[TrainingRow] = []
    for label in dict.fromkeys(draft.label for draft in drafts):
        own = [row for row in rows if row.label == label]
        wanted = sum(draft.label == label for draft in drafts) if own else 0
        copies += [msgspec.structs.replace(own[i % len(own)], synthetic=True) for i in range(wanted)]
    return copies


def _predict_twice(
    real: Batch, drafts: Batch, parents: Parents, *, balanced: bool, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Cross-fit predicted class indices [n] of the real rows, without and with the drafts."""
    predicted = np.zeros((2, len(real.targets)), dtype=int)
    for fit, held_out in folds(real.targets, FOLDS, seed):
        own = part_of(real, fit)
        usable = part_of(drafts, written_without(parents, held_out))
        for arm, batch in enumerate((own, joined(own, usable))):
            predicted[arm, held_out] = predict(batch, real.vectors[held_out], balanced=balanced)
    return predicted[0], predicted[1]
