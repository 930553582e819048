"""Which drafts may stand beside which held-out rows: none that was written with one of them in sight.

A draft resembles its parents more than other rows of their class. Were it trained on while a parent judges, drafts would look
better than they are. So the rows of each class are dealt into two halves, the writer takes the parents of a draft from one half, and
the gate scores each half by what was fitted on the other and on drafts without a parent in it.
"""

from collections import defaultdict
from collections.abc import Sequence
from hashlib import sha256

import numpy as np

from hybrid.types import Draft

HALVES = (0, 1)
Parents = Sequence[frozenset[int]]
"""The places of each draft's parents among the real rows; a parent that is none of them judges nothing and is left out."""


def halves(ids: Sequence[str], labels: Sequence[str]) -> np.ndarray:
    """Deal rows into halves 0 and 1, integers of shape [n]: those of each label in turn, in an order that only their ids decide."""
    of_label: dict[str, list[int]] = defaultdict(list)
    for place, label in enumerate(labels):
        of_label[label].append(place)
    half = np.zeros(len(ids), dtype=int)
    for places in of_label.values():
        for turn, place in enumerate(sorted(places, key=lambda place: sha256(ids[place].encode()).digest())):
            half[place] = turn % 2
    return half


def parent_places(drafts: Sequence[Draft], ids: Sequence[str]) -> Parents:
    """Find the parents of each draft among the rows with these ids."""
    place = {row_id: i for i, row_id in enumerate(ids)}
    return [frozenset(place[parent] for parent in draft.parents if parent in place) for draft in drafts]


def written_without(parents: Parents, held_out: np.ndarray) -> np.ndarray:
    """Which drafts have no parent among the held-out places, truth values of shape [drafts]."""
    hidden = set(held_out.tolist())
    return np.array([not hidden & of_draft for of_draft in parents], dtype=bool)
