"""Near-duplicate texts: MinHash finds the candidates, exact Jaccard similarity decides."""

import re
from array import array
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations, product

import numpy as np

from hybrid.data.links import Links, candidate_pairs
from hybrid.data.minhash import SHINGLE, bands_for, signed, windows

SHINGLE_SETS = 4096
"""Sets of shingles that are kept for further comparisons, about 20 KB each."""
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
    return _shingles_of(fold(text))


def _shingles_of(folded: str) -> frozenset[str]:
    return frozenset(windows(folded))


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    """Return the Jaccard similarity of two sets, 0 to 1."""
    return len(a & b) / len(a | b)


class NearIndex:
    """An index of texts that finds near-copies of a text.

    Candidates come from locality-sensitive hashing of MinHash signatures (Broder 1997): two texts are compared where all
    values of a band agree and enough of the others (`hybrid.data.minhash`). Each candidate is checked by its exact
    similarity.

    What holds: no pair is invented, and texts that fold to the same are always found. A pair of similarity s is missed
    with probability (1 - s^r)^b for b bands of r values. At a threshold of 0.8, with 14 bands of 9, that is 13 in 100 at
    s = 0.8, 3 in 100 at 0.85, 1 in 1,000 at 0.9 and 1 in a million at 0.95. The candidates are those of datasketch's index.

    A text takes its folded form, 12 bytes for each band and 128 for its signature; shingles are made again for the
    texts that are compared. Time grows with n log n, and with the candidates that are in no group together yet.
    """

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        self._threshold = threshold
        self._bands = bands = bands_for(threshold)
        self._folded, self._number = _distinct(texts)
        self._first_text = np.unique(self._number, return_index=True)[1]
        n = len(self._folded)
        self._keys = np.empty((bands.number, n), dtype=np.uint64)
        self._values = np.empty((n, bands.number * bands.rows), dtype=np.uint8)
        for start, keys, values in signed(self._folded, bands):
            self._keys[:, start : start + len(values)] = keys
            self._values[start : start + len(values)] = values
        self._order = np.empty((bands.number, n), dtype=np.int32)
        for of_band, order in zip(self._keys, self._order, strict=True):
            order[:] = np.argsort(of_band, kind="stable")
            of_band[:] = of_band[order]
        self._shingles = lru_cache(maxsize=SHINGLE_SETS)(lambda number: _shingles_of(self._folded[number]))

    def nearest(self, text: str) -> tuple[int, float] | None:
        """Return index and similarity of the nearest near-copy of `text`, or None."""
        return next(self.nearest_each([text]))

    def nearest_each(self, texts: Sequence[str]) -> Iterator[tuple[int, float] | None]:
        """Yield what `nearest` returns for each text; many at once take less time."""
        for near in self._near_each([fold(text) for text in texts]):
            nearest = max(near, key=lambda pair: (pair[1], -pair[0]), default=None)
            yield None if nearest is None else (int(self._first_text[nearest[0]]), nearest[1])

    def pairs(self) -> list[tuple[int, int]]:
        """Return the pairs (i, j), i < j, of near-duplicates among the texts, in order: every two of many copies."""
        members: list[list[int]] = [[] for _ in self._folded]
        for index, number in enumerate(self._number.tolist()):
            members[number].append(index)
        pairs = [pair for copies in members for pair in combinations(copies, 2)]
        for number, near in enumerate(self._near_each(self._folded)):
            later = [other for other, _ in near if other > number]
            pairs += [(min(p), max(p)) for other in later for p in product(members[number], members[other])]
        return sorted(pairs)

    def groups(self) -> np.ndarray:
        """Return a group number for each text, integers of shape [n]: texts linked by near-duplicates share a number."""
        links = Links(len(self._folded))
        for keys, order in zip(self._keys, self._order, strict=True):
            for a, b in candidate_pairs(keys, order, links):
                alike = self._matches(a, b) >= self._bands.least_matches
                for first, second in zip(a[alike].tolist(), b[alike].tolist(), strict=True):
                    if not links.joined(first, second) and self._is_near(first, second):
                        links.join(first, second)
        return np.asarray(links.groups()[self._number])

    def _is_near(self, a: int, b: int) -> bool:
        return jaccard(self._shingles(a), self._shingles(b)) >= self._threshold

    def _matches(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Count the values that the signatures of texts `a` [m] and `b` [m] share."""
        return np.asarray(np.count_nonzero(self._values[a] == self._values[b], axis=1))

    def _near_each(self, folded: Sequence[str]) -> Iterator[list[tuple[int, float]]]:
        """Yield the near-copies of each folded text: their numbers, rising, and similarities."""
        for start, keys, values in signed(folded, self._bands):
            for i, text in enumerate(folded[start : start + len(values)]):
                candidates = self._candidates(keys[:, i])
                matches = np.count_nonzero(self._values[candidates] == values[i], axis=1)
                numbers = candidates[matches >= self._bands.least_matches].tolist()
                own = _shingles_of(text) if numbers else frozenset()
                scored = [(number, jaccard(own, self._shingles(number))) for number in numbers]
                yield [(number, similarity) for number, similarity in scored if similarity >= self._threshold]

    def _candidates(self, keys: np.ndarray) -> np.ndarray:
        """Return the numbers, rising, of the texts that share one of the keys [bands]."""
        candidates = []
        for key, of_band, order in zip(keys, self._keys, self._order, strict=True):
            start, end = np.searchsorted(of_band, key, "left"), np.searchsorted(of_band, key, "right")
            candidates.append(order[start:end])
        return np.unique(np.concatenate(candidates))


def _distinct(texts: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Return the different folded texts in the order of their first, and the number of each text's, int32 [n]."""
    numbers: dict[str, int] = {}
    of_texts = array("i", (numbers.setdefault(fold(text), len(numbers)) for text in texts))
    return list(numbers), np.array(of_texts, dtype=np.int32)


def near_duplicate_groups(texts: Sequence[str], threshold: float) -> np.ndarray:
    """Return a group number for each text, integers of shape [n]: texts linked by near-duplicates share a number."""
    return NearIndex(texts, threshold).groups()
