"""Near-duplicate texts: MinHash finds the candidates, exact Jaccard similarity decides."""

import re
from collections.abc import Sequence

import numpy as np
from datasketch import MinHash, MinHashLSH
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

SHINGLE = 5
PERMUTATIONS = 128
_LINK = re.compile(r"https?://\S+|www\.\S+")
_HANDLE = re.compile(r"@\w+")
_SENTENCE_MARKS = ".,;:!?…'\"()"


def fold(text: str) -> str:
    """Normalise a text for comparison: lower case, with numbers, links and handles masked.

    A text of fewer letters than a shingle, such as `C#`, emoji or a number, would fold to almost nothing and be like
    every other. It is compared as it stands, but for case, white space and outer punctuation.
    """
    lower = text.lower()
    letters = sum(map(str.isalpha, _HANDLE.sub("", _LINK.sub("", lower))))
    if letters < SHINGLE:
        as_it_stands = " ".join(lower.split())
        return as_it_stands.strip(_SENTENCE_MARKS) if any(map(str.isalnum, lower)) else as_it_stands
    masked = _HANDLE.sub("<at>", _LINK.sub("<url>", lower))
    return re.sub(r"\W+", " ", re.sub(r"\d+", "0", masked)).strip()


def shingles(text: str) -> frozenset[str]:
    """Return the character 5-grams of the folded text, or the text itself if it is shorter."""
    folded = fold(text)
    return frozenset(folded[i : i + SHINGLE] for i in range(max(1, len(folded) - SHINGLE + 1)))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Return the Jaccard similarity of two sets, 0 to 1."""
    return len(a & b) / len(a | b)


class NearIndex:
    """An index of texts that finds near-copies of a text.

    Candidates come from locality-sensitive hashing of MinHash signatures (Broder 1997), 128
    permutations. Each is checked by its exact similarity: the index may miss a pair, and never invents one.
    """

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        self._threshold = threshold
        self._shingles = [shingles(text) for text in texts]
        # A slightly lower threshold for the candidates misses fewer pairs that are close to the threshold.
        self._lsh = MinHashLSH(threshold=max(0.1, threshold - 0.1), num_perm=PERMUTATIONS)
        with self._lsh.insertion_session() as session:
            for index, signature in enumerate(_signatures(self._shingles)):
                session.insert(index, signature)

    def nearest(self, text: str) -> tuple[int, float] | None:
        """Return index and similarity of the nearest near-copy of `text`, or None."""
        text_shingles = shingles(text)
        near = self._near(text_shingles, _signatures([text_shingles])[0])
        return max(near, key=lambda pair: (pair[1], -pair[0]), default=None)

    def pairs(self) -> list[tuple[int, int]]:
        """Return the pairs (i, j), i < j, of near-duplicates among the texts."""
        pairs = []
        for index, signature in enumerate(_signatures(self._shingles)):
            near = self._near(self._shingles[index], signature)
            pairs += [(index, other) for other, _ in near if other > index]
        return pairs

    def _near(self, text_shingles: frozenset[str], signature: MinHash) -> list[tuple[int, float]]:
        scored = [
            (index, jaccard(text_shingles, self._shingles[index])) for index in sorted(self._lsh.query(signature))
        ]
        return [(index, similarity) for index, similarity in scored if similarity >= self._threshold]


def _signatures(sets: Sequence[frozenset[str]]) -> list[MinHash]:
    encoded = [[shingle.encode() for shingle in sorted(shingle_set)] for shingle_set in sets]
    return list(MinHash.bulk(encoded, num_perm=PERMUTATIONS))


def near_duplicate_groups(texts: Sequence[str], threshold: float) -> np.ndarray:
    """Return a group number for each text, integers of shape [n]: texts linked by near-duplicates share a number."""
    pairs = np.array(NearIndex(texts, threshold).pairs(), dtype=int).reshape(-1, 2)
    n = len(texts)
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    groups: np.ndarray = connected_components(links, directed=False)[1]
    return groups
