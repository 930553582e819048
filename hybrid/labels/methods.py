"""The methods of cleaning: each estimates from what is known of the training rows what their labels should be.

`METHODS` is the one table of them, and the recipe's `clean.method` is one of its keys or "auto". To add a method: a
function in a file of its own, and an entry here. What a method needs is imported when it is used, so that reading a
recipe costs nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from hybrid.labels.estimate import LabelEstimate, as_given, prune
from hybrid.labels.sources import LabelSource

AUTO = "auto"
"""In a recipe: the simplest method that the trusted rows speak for (`hybrid.labels.method_selection`)."""
WITHOUT_TRUSTED = "consensus"
"""What "auto" is where no row is trusted."""


class CleaningInputs(msgspec.Struct, frozen=True, kw_only=True):
    """What every method is given about n rows, k labels and m trusted rows."""

    given: np.ndarray
    """Class indices [n] of the labels that the rows came with."""
    quality: np.ndarray
    """The probability [n] of the given label, by the classifier."""
    suspects: np.ndarray
    """True where confident learning doubts the given label [n]."""
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
    """One method, as `METHODS` has it."""

    estimate: Callable[[CleaningInputs], LabelEstimate]
    name: str
    """What a decision's reason calls it."""
    needs_trusted: bool = False
    """Whether it learns from trusted rows and cannot do without. Its probabilities are what it learned of all sources
    and their stated confidence."""
    weighs_sources: bool = True
    """Whether it weighs what the sources say. If not, its probabilities are the given labels alone, and its decisions
    stand as they are: it is chosen by who wants the labels as they came, so no row is put up for review."""


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
"""By the name that a recipe uses, from the simplest to the richest."""
_OF_REPORT = {"as given": "given", "crowdlab": "consensus", "confident learning": "consensus"}
"""The names in reports of old runs, where they are not the key of the method."""


def method_of(report: Mapping[str, Any]) -> CleaningMethod:
    """Find the method that a run was cleaned with, from the report of its stage `clean`."""
    name = report["method"]
    return METHODS[report.get("method_id") or _OF_REPORT.get(name, name)]
