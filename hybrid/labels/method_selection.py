"""Which method of cleaning to believe: the trusted rows decide, and the simpler one wins a draw."""

from collections.abc import Sequence

import msgspec
import numpy as np

from hybrid.labels.estimate import Method

DIGITS = 4


class HeldOutLabels(msgspec.Struct, frozen=True, kw_only=True):
    """What a method makes of the trusted rows, their labels unseen: probabilities [m, k], and which it keeps."""

    probs: np.ndarray
    kept: np.ndarray


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """The method taken; by method the shares of trusted rows `right`, `wrong`, `dropped`, and their `brier` score."""

    method: Method
    scores: dict[str, dict[str, float]]


def choose(ballots: dict[Method, HeldOutLabels], gold: np.ndarray) -> Choice:
    """Return the simplest method whose Brier score is within one standard error of the best.

    The score (0 to 2, Brier 1950) is that of the soft label with which a row would train; of a dropped row nothing is
    known, and it scores as even probabilities do. `ballots` stand from the simplest method to the richest.
    """
    losses = [_brier_by_row(ballot, gold) for ballot in ballots.values()]
    scores = {str(name): _shares(ballot, gold) for name, ballot in ballots.items()}
    for row, loss in zip(scores.values(), losses, strict=True):
        row["brier"] = round(float(loss.mean()), DIGITS)
    return Choice(method=list(ballots)[simplest_within_error([-loss for loss in losses])], scores=scores)


def simplest_within_error(points: Sequence[np.ndarray]) -> int:
    """Return the first place whose mean is within one standard error of the best mean (Breiman et al. 1984).

    The error is that of the difference on the same rows; `points` [m] stand from the simplest to the richest.
    """
    best = max(points, key=lambda found: float(found.mean()))
    worse = [best - found for found in points]
    return next(
        i for i, gap in enumerate(worse) if gap.mean() <= gap.std(ddof=min(1, len(gap) - 1)) / np.sqrt(len(gap))
    )


def _brier_by_row(ballot: HeldOutLabels, gold: np.ndarray) -> np.ndarray:
    n_labels = ballot.probs.shape[1]
    probs = np.where(ballot.kept[:, None], ballot.probs, 1 / n_labels)
    return np.asarray(((probs - np.eye(n_labels)[gold]) ** 2).sum(axis=1))


def _shares(ballot: HeldOutLabels, gold: np.ndarray) -> dict[str, float]:
    right = ballot.kept & (ballot.probs.argmax(axis=1) == gold)
    shares = {"right": right, "wrong": ballot.kept & ~right, "dropped": ~ballot.kept}
    return {name: round(float(rows.mean()), DIGITS) for name, rows in shares.items()}
