"""What a method of cleaning estimates of every row's label, whichever method it is."""

import msgspec
import numpy as np


class LabelEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """Labels of n rows out of k, how probable they are, and what they were weighed from."""

    method: str
    """A key of `hybrid.labels.methods.METHODS`."""
    name: str
    """What reports call it: a method may have several names, by what it had to work with."""
    label: np.ndarray
    """Class indices [n]."""
    quality: np.ndarray
    """The probability [n] that the label is right."""
    probs: np.ndarray
    """Class probabilities [n, k], with which a row would train."""
    kept: np.ndarray
    """True where the row trains [n]."""
    weights: dict[str, float]
    """What each source of evidence counts for."""
    ignored_sources: tuple[str, ...] = ()
    """The sources whose votes are worth too little to be weighed."""
    held_out_probs: np.ndarray | None = None
    """Class probabilities [m, k] of the trusted rows, each from a model that did not see its trusted label. None: the
    method learns from no trusted label, so that `probs` are that already."""
    report: dict[str, object] = {}
    """Figures of the method's own, for the report of the stage."""


def as_given(given: np.ndarray, quality: np.ndarray, n_labels: int) -> LabelEstimate:
    """Leave every row the label that it came with."""
    return LabelEstimate(
        method="given",
        name="as given",
        label=given,
        quality=quality,
        probs=np.eye(n_labels)[given],
        kept=np.ones(len(given), dtype=bool),
        weights={"given": 1.0},
    )


def prune(given: np.ndarray, quality: np.ndarray, n_labels: int, suspects: np.ndarray) -> LabelEstimate:
    """Leave the given labels and drop the suspects [n] of confident learning (Northcutt et al. 2021)."""
    plain = as_given(given, quality, n_labels)
    return msgspec.structs.replace(plain, method="prune", name="prune", kept=~suspects)
