"""Diversity measures, to compare the drafts of a class with the same number of real texts."""

from collections.abc import Sequence

import numpy as np

from hybrid.data.duplicates import fold


def diversity(texts: Sequence[str], vectors: np.ndarray) -> dict[str, float]:
    """Compute distinct-1 and distinct-2 (Li et al. 2016) and the mean pairwise cosine of unit vectors [n, d].

    Distinct-n is the number of distinct word n-grams over their total number. It falls as texts are added, so compare
    equal numbers of texts.
    """
    return {
        "texts": len(texts),
        "distinct_1": round(_distinct(texts, 1), 4),
        "distinct_2": round(_distinct(texts, 2), 4),
        "mean_similarity": round(_mean_similarity(vectors), 4),
    }


def _distinct(texts: Sequence[str], n: int) -> float:
    words_of_texts = [fold(text).split() for text in texts]
    ngrams = [tuple(words[i : i + n]) for words in words_of_texts for i in range(len(words) - n + 1)]
    return len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def _mean_similarity(vectors: np.ndarray) -> float:
    n = len(vectors)
    if n < 2:
        return 0.0
    # The sum of all pairs' cosines is the squared length of the sum, less each vector with itself.
    return float((np.square(vectors.sum(axis=0)).sum() - np.square(vectors).sum()) / (n * (n - 1)))
