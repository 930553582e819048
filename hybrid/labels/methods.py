"""The cleaning methods: each estimates what the labels of the training rows should be.

The recipe's `clean.method` is a key of `METHODS` or "auto". To add a method, write a function in a module of its own and
add an entry here. Import what a method needs inside its function, so that reading a recipe stays cheap.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from hybrid.labels.estimate import LabelEstimate, as_given, prune
from hybrid.labels.sources import LabelSource

AUTO = "auto"
"""In a recipe: choose the method on the trusted rows (`hybrid.labels.method_selection`)."""
WITHOUT_TRUSTED = "consensus"
"""The method that "auto" selects if no row is trusted."""


class CleaningInputs(msgspec.Struct, frozen=True, kw_only=True):
    """The inputs of every method, for n rows, k labels and m trusted rows."""

    given: np.ndarray
    """Class indices [n] of the given labels."""
    quality: np.ndarray
    """The classifier's probability [n] of the given label."""
    suspects: np.ndarray
    """A mask [n]: whether confident learning suspects the given label."""
    probs: np.ndarray
    """Out-of-sample class probabilities [n, k] of a classifier fitted on the given labels."""
    embeddings: np.ndarray
    """Frozen embeddings [n, d] of the texts."""
    sources: Sequence[LabelSource]
    """The annotators or the given labels, and the teachers' votes."""
    trusted: np.ndarray
    """The row numbers [m] of the trusted rows."""
    trusted_labels: np.ndarray
    """Their class indices [m]."""
    folds: int
    seed: int


class CleaningMethod(msgspec.Struct, frozen=True, kw_only=True):
    """A cleaning method: an entry of `METHODS`."""

    estimate: Callable[[CleaningInputs], LabelEstimate]
    name: str
    """The name in the reason of a decision."""
    needs_trusted: bool = False
    """Whether the method requires trusted rows. If so, its probabilities already account for the reliability of all sources
    and of their stated confidence."""
    weighs_sources: bool = True
    """Whether the method weights the sources. If not, its probabilities are the given labels alone, and no row is queued
    for review, because a user who chooses such a method wants to keep the given labels."""


def _given(inputs: CleaningInputs) -> LabelEstimate:
    return as_given(inputs.given, inputs.quality, inputs.probs.shape[1])


def _prune(inputs: CleaningInputs) -> LabelEstimate:
    return prune(inputs.given, inputs.quality, inputs.probs.shape[1], inputs.suspects)


def _consensus(inputs: CleaningInputs) -> LabelEstimate:
    from hybrid.labels.consensus import consensus

    return consensus(inputs.sources, inputs.given, inputs.quality, inputs.probs)


def _repair(inputs: CleaningInputs) -> LabelEstimate:
    from hybrid.labels.repair import repair

    return repair(
        inputs.embeddings,
        inputs.sources,
        inputs.probs.shape[1],
        inputs.trusted,
        inputs.trusted_labels,
        folds=inputs.folds,
        seed=inputs.seed,
    )


METHODS: dict[str, CleaningMethod] = {
    "given": CleaningMethod(estimate=_given, name="as given", weighs_sources=False),
    "prune": CleaningMethod(estimate=_prune, name="prune", weighs_sources=False),
    "consensus": CleaningMethod(estimate=_consensus, name="consensus"),
    "repair": CleaningMethod(estimate=_repair, name="repair", needs_trusted=True),
}
"""The methods by their names in a recipe, from the simplest to the most complex."""
_ID_BY_OLD_NAME = {"as given": "given", "crowdlab": "consensus", "confident learning": "consensus"}
"""Old reports name the method only by its display name; these names differ from the method's key."""


def method_of(report: Mapping[str, Any]) -> CleaningMethod:
    """Find the method that a run was cleaned with, from the report of its stage `clean`."""
    name = report["method"]
    return METHODS[report.get("method_id") or _ID_BY_OLD_NAME.get(name, name)]
