"""How alike the drafts of a class are, beside as many real texts of it."""

from collections.abc import Sequence

import numpy as np

from hybrid.data.duplicates import fold


def diversity(texts: Sequence[str], vectors: np.ndarray) -> dict[str, float]:
    """Return distinct-1 and distinct-2 (Li et al. 2016) and the mean pairwise cosine of unit vectors [n, d].

    Distinct-n is the share of n-grams of words that are different; it falls with the number of words, so compare
    equal numbers of texts.
    """
    return {
        "texts": len(texts),
        "distinct_1": round(_distinct(texts, 1), 4),
        "distinct_2": round(_distinct(texts, 2), 4),
        "mean_similarity": round(_mean_similarity(vectors), 4),
    }


def _distinct(texts: Sequence[str], n: int) -> float:
    words = [fold(text).split() for text in texts]
    grams = [tuple(one[i : i + n]) for one in words for i in range(len(one) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 0.0


def _mean_similarity(vectors: np.ndarray) -> float:
    n = len(vectors)
    if n < 2:
        return 0.0
    # The sum of all pairs' cosines is the squared length of the sum, less each vector with itself.
    return float((np.square(vectors.sum(axis=0)).sum() - np.square(vectors).sum()) / (n * (n - 1)))
