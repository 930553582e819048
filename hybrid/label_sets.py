"""The labels of a multi-label row: one string in the tables, a set or a row of a 0/1 matrix where they are used.

In every table such a row's `label` is the canonical join: its labels once each, sorted, with `LABEL_SEPARATOR` between
them; the empty string is a row without any label. So equal sets are equal strings.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from hybrid.errors import DataError
from hybrid.types import LABEL_SEPARATOR


def join_labels(labels: Iterable[str]) -> str:
    """Return the canonical join of some labels."""
    return LABEL_SEPARATOR.join(sorted(set(labels)))


def split_labels(joined: str) -> tuple[str, ...]:
    """Return the labels of a canonical join, sorted."""
    return tuple(joined.split(LABEL_SEPARATOR)) if joined else ()


def label_matrix(joined: Sequence[str], labels: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Return which row has which label, [n, k], from canonical joins [n].

    Raises:
        DataError: a row has a label that is not one of `labels`.
    """
    place = {label: index for index, label in enumerate(labels)}
    matrix = np.zeros((len(joined), len(labels)), dtype=np.bool_)
    for row, one in enumerate(joined):
        for label in split_labels(one):
            if label not in place:
                raise DataError(
                    f"row {row} of {len(joined)} has the label {label!r}: want some of the {len(labels)} labels of the "
                    "recipe; correct the row or add the label to `labels`"
                )
            matrix[row, place[label]] = True
    return matrix


def rarest_labels(joined: Sequence[str]) -> list[str]:
    """Return of each row the label that the fewest rows have, the empty string where it has none.

    A draw that is stratified by it keeps the rare labels even; the frequent ones come out even by their number.
    """
    sets = [split_labels(one) for one in joined]
    counts = Counter(label for labels in sets for label in labels)
    return [min(labels, key=lambda label: (counts[label], label), default="") for labels in sets]
