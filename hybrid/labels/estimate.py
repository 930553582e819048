"""The label estimates of a cleaning method, in the same form for every method."""

import msgspec
import numpy as np


class LabelEstimate(msgspec.Struct, frozen=True, kw_only=True):
    """Estimated labels of n rows out of k labels, with their probabilities and the weights of the sources."""

    method: str
    """A key of `hybrid.labels.methods.METHODS`."""
    name: str
    """The name in reports; one method may have several, depending on the sources it had."""
    label: np.ndarray
    """Class indices [n]."""
    quality: np.ndarray
    """The probability [n] that the label is right."""
    probs: np.ndarray
    """Class probabilities [n, k], the soft label of a row in training."""
    kept: np.ndarray
    """A mask [n]: whether the row is used in training."""
    weights: dict[str, float]
    """The weight of each source or kind of evidence."""
    ignored_sources: tuple[str, ...] = ()
    """The sources that were left out because their votes are too unreliable."""
    held_out_probs: np.ndarray | None = None
    """Class probabilities [m, k] of the trusted rows, each from a model that did not see its trusted label. None if
    the method learns from no trusted label, because `probs` are out of sample already."""
    report: dict[str, object] = {}
    """Extra entries for the stage report."""


def as_given(given: np.ndarray, quality: np.ndarray, n_labels: int) -> LabelEstimate:
    """Keep the given label of every row."""
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
    """Keep the given labels and drop the suspects [n] of confident learning (Northcutt et al. 2021)."""
    unpruned = as_given(given, quality, n_labels)
    return msgspec.structs.replace(unpruned, method="prune", name="prune", kept=~suspects)
