"""What a method of cleaning thinks of every row, whichever method it is, and the two plainest ones."""

from typing import Literal

import msgspec
import numpy as np

Method = Literal["given", "prune", "consensus", "repair"]
METHODS: tuple[Method, ...] = ("given", "prune", "consensus", "repair")
"""From the simplest to the richest."""


class LabelEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """Class index [n] and the probability that it is right [n], probabilities [n, k], which rows train, and why."""

    name: str
    label: np.ndarray
    quality: np.ndarray
    probs: np.ndarray
    kept: np.ndarray
    weights: dict[str, float]
    """What each source of evidence counts for."""
    not_heard: tuple[str, ...] = ()
    """The sources whose votes are worth too little to be weighed."""


def as_given(given: np.ndarray, quality: np.ndarray, n_labels: int) -> LabelEstimate:
    """Return every row with the label that it came with."""
    return LabelEstimate(
        name="as given",
        label=given,
        quality=quality,
        probs=np.eye(n_labels)[given],
        kept=np.ones(len(given), dtype=bool),
        weights={"given": 1.0},
    )


def prune(given: np.ndarray, quality: np.ndarray, n_labels: int, suspects: np.ndarray) -> LabelEstimate:
    """Return the given labels without the suspects of confident learning (Northcutt et al. 2021)."""
    plain = as_given(given, quality, n_labels)
    return msgspec.structs.replace(plain, name="prune", kept=~suspects)
