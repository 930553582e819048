"""Labels by position, and the several labels of a row: one string in tables, a row of a 0/1 matrix in computations.

In every table the `label` of a row with several labels is their canonical join: each label once, sorted, with
`LABEL_SEPARATOR` between them. The empty string is a row without any label. So equal sets are equal strings.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from hybrid.errors import DataError
from hybrid.types import LABEL_SEPARATOR


def index_by_label(labels: Sequence[str]) -> dict[str, int]:
    """Return the position of each label, which is its column in logits and probabilities."""
    return {label: index for index, label in enumerate(labels)}


def label_named(name: str, labels: Sequence[str]) -> str | None:
    """Return the label that a person or a model wrote, case and outer white space aside; None if it is none of `labels`.

    Labels that differ in nothing but case are told apart by their exact spelling alone.
    """
    written = name.strip()
    if written in labels:
        return written
    matches = [label for label in labels if label.casefold() == written.casefold()]
    return matches[0] if len(matches) == 1 else None


def join_labels(labels: Iterable[str]) -> str:
    """Return the canonical join of labels."""
    return LABEL_SEPARATOR.join(sorted(set(labels)))


def split_labels(joined: str) -> tuple[str, ...]:
    """Return the labels of a canonical join, sorted."""
    return tuple(joined.split(LABEL_SEPARATOR)) if joined else ()


def label_matrix(joined: Sequence[str], labels: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Return which row has which label, truth values of shape [n, k], from canonical joins [n].

    Raises:
        DataError: a row has a label that is not one of `labels`.
    """
    index = index_by_label(labels)
    matrix = np.zeros((len(joined), len(labels)), dtype=np.bool_)
    for row, cell in enumerate(joined):
        for label in split_labels(cell):
            if label not in index:
                raise DataError(
                    f"row {row} of {len(joined)} has the label {label!r}: expected some of the {len(labels)} labels "
                    "of the recipe; correct the row or add the label to `labels`"
                )
            matrix[row, index[label]] = True
    return matrix


def rarest_labels(joined: Sequence[str]) -> list[str]:
    """Return the rarest label of each row, the empty string if it has none.

    A draw that is stratified by it spreads the rare labels evenly; frequent labels spread evenly by their number.
    """
    sets = [split_labels(cell) for cell in joined]
    counts = Counter(label for labels in sets for label in labels)
    return [min(labels, key=lambda label: (counts[label], label), default="") for labels in sets]
