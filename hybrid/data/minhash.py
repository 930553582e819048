"""MinHash signatures of many folded texts, those of datasketch, and the bands in which near-duplicates are looked for."""

from array import array
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
from datasketch import MinHash, MinHashLSH
from datasketch.hashfunc import sha1_hash32
from scipy.stats import binom

SHINGLE = 5
PERMUTATIONS = 128
CHUNK_CHARACTERS = 1_000_000
"""Characters of the texts whose signatures are computed together."""
MISSED = 1e-9
"""The probability with which `Bands.least_matches` passes over a pair as similar as the threshold."""
_MIX = np.uint64(0x9E3779B97F4A7C15)


class Bands(NamedTuple):
    """A signature of `number` bands of `rows` values, each the least a * h + b of a text's shingles; a and b are uint32 [128]."""

    number: int
    rows: int
    a: np.ndarray
    b: np.ndarray
    least_matches: int
    """Signatures of two texts as similar as the threshold agree in fewer values with probability `MISSED`."""


class Signed(NamedTuple):
    """The signatures of the texts from number `start` on."""

    start: int
    keys: np.ndarray
    """A number for each band of each text, uint64 [bands, n]: equal where all values of the band are."""
    values: np.ndarray
    """The last byte of each value, uint8 [n, bands * rows]."""


@cache
def bands_for(threshold: float) -> Bands:
    """Return the bands that find pairs of at least this Jaccard similarity, as `datasketch.MinHashLSH` chooses them."""
    # A slightly lower threshold for the candidates misses fewer pairs that are close to the threshold.
    lsh = MinHashLSH(threshold=max(0.1, threshold - 0.1), num_perm=PERMUTATIONS)
    a, b = MinHash(num_perm=PERMUTATIONS, scheme="affine32").permutations
    least = int(binom.ppf(MISSED, lsh.b * lsh.r, threshold))
    return Bands(lsh.b, lsh.r, a, b, least)


def windows(folded: str) -> Iterator[str]:
    """Yield the character 5-grams of a folded text, or the text itself if it is shorter."""
    return (folded[i : i + SHINGLE] for i in range(max(1, len(folded) - SHINGLE + 1)))


def signed(folded: Sequence[str], bands: Bands) -> Iterator[Signed]:
    """Yield the signatures of folded texts in chunks of limited size."""
    for start, end in _chunks(folded):
        signatures = signatures_of(folded[start:end], bands)
        keys = np.zeros((bands.number, end - start), dtype=np.uint64)
        for band, row in product(range(bands.number), range(bands.rows)):
            keys[band] = (keys[band] ^ signatures[band * bands.rows + row]) * _MIX
            keys[band] ^= keys[band] >> np.uint64(29)
        yield Signed(start, keys, signatures.T.astype(np.uint8))


def signatures_of(folded: Sequence[str], bands: Bands) -> np.ndarray:
    """Compute the MinHash signatures of folded texts as datasketch does, uint32 of shape [bands * rows, n].

    Each shingle of the texts is hashed once, and the texts are reduced together.
    """
    numbers: dict[str, int] = {}
    of_texts, starts = array("i"), array("q")
    for text in folded:
        starts.append(len(of_texts))
        of_texts.extend(numbers.setdefault(shingle, len(numbers)) for shingle in windows(text))
    hashes = _mixed(np.array([sha1_hash32(shingle.encode()) for shingle in numbers], dtype=np.uint32))
    shingles, first = np.array(of_texts), np.array(starts)
    signatures = np.empty((bands.number * bands.rows, len(folded)), dtype=np.uint32)
    for row in range(len(signatures)):
        permuted = hashes * bands.a[row] + bands.b[row]
        signatures[row] = np.minimum.reduceat(permuted[shingles], first)
    return signatures


def _chunks(folded: Sequence[str]) -> Iterator[tuple[int, int]]:
    start = characters = 0
    for end, text in enumerate(folded, start=1):
        characters += len(text)
        if characters >= CHUNK_CHARACTERS or end == len(folded):
            yield start, end
            start, characters = end, 0


def _mixed(hashes: np.ndarray) -> np.ndarray:
    """Spread hashes, uint32 of shape [n]: the finalizer of MurmurHash3 (Appleby 2011), which `affine32` starts with."""
    hashes = (hashes ^ (hashes >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    hashes = (hashes ^ (hashes >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    return np.asarray(hashes ^ (hashes >> np.uint32(16)))
