"""Pairs of items to compare, from sorted keys, and the groups that the linked ones form."""

from collections.abc import Iterator

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

LARGE = 32
"""Items of one key from which on only items of different groups are paired."""
PAIRS_TOGETHER = 100_000

Pairs = tuple[np.ndarray, np.ndarray]
"""Two arrays of as many item numbers."""


class Links:
    """The groups of n items as links between them come in (union-find)."""

    def __init__(self, n: int) -> None:
        """Start with every item in a group of its own."""
        self._parent = list(range(n))
        self._links: list[tuple[int, int]] = []

    def joined(self, a: int, b: int) -> bool:
        """Whether two items are in one group."""
        return self._root(a) == self._root(b)

    def join(self, a: int, b: int) -> None:
        """Link two items."""
        self._links.append((a, b))
        self._parent[self._root(a)] = self._root(b)

    def groups(self) -> np.ndarray:
        """Return the number of each item's group, integers of shape [n], in the order of the groups' first items."""
        links, n = np.array(self._links, dtype=int).reshape(-1, 2), len(self._parent)
        graph = coo_array((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(n, n))
        groups: np.ndarray = connected_components(graph, directed=False)[1]
        return groups

    def _root(self, item: int) -> int:
        parent = self._parent
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item


def candidate_pairs(keys: np.ndarray, order: np.ndarray, links: Links) -> Iterator[Pairs]:
    """Yield the pairs of items with equal keys, but for pairs that are in one group by then.

    Neighbours come first: where all items of a key are alike, they link them, and no other pair is left.

    Args:
        keys: the sorted keys [n].
        order: the item of each key [n].
        links: the groups; the caller links pairs as they come.
    """
    changes = np.flatnonzero(keys[1:] != keys[:-1]) + 1
    starts = np.concatenate([[0], changes])
    sizes = np.diff(np.append(starts, len(keys)))
    starts, sizes = starts[sizes > 1], sizes[sizes > 1]
    yield from _at_distance(1, order, starts, sizes)
    groups, small = links.groups(), sizes <= LARGE
    for distance in range(2, LARGE):
        yield from _at_distance(distance, order, starts[small], sizes[small], groups)
    for start, size in zip(starts[~small].tolist(), sizes[~small].tolist(), strict=True):
        yield from _across_groups(order[start : start + size], groups)


def _at_distance(
    distance: int, order: np.ndarray, starts: np.ndarray, sizes: np.ndarray, groups: np.ndarray | None = None
) -> Iterator[Pairs]:
    """Yield the pairs of items of one key that are `distance` apart; with `groups` [n], those of different groups."""
    counts = sizes[sizes > distance] - distance
    first = np.repeat(starts[sizes > distance] - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
    a, b = order[first], order[first + distance]
    if groups is not None:
        apart = groups[a] != groups[b]
        a, b = a[apart], b[apart]
    for start in range(0, len(a), PAIRS_TOGETHER):
        yield a[start : start + PAIRS_TOGETHER], b[start : start + PAIRS_TOGETHER]


def _across_groups(items: np.ndarray, groups: np.ndarray) -> Iterator[Pairs]:
    """Yield the pairs of items of one key that are in different groups."""
    items = items[np.argsort(groups[items], kind="stable")]
    ends = np.flatnonzero(np.diff(groups[items])) + 1
    for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=False):
        others = items[end:]
        step = max(1, PAIRS_TOGETHER // len(others))
        for i in range(start, end, step):
            some = items[i : min(end, i + step)]
            yield np.repeat(some, len(others)), np.tile(others, len(some))
