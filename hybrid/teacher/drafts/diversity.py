"""Diversity of the drafts of a class, and what tells them from real texts of it."""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

from hybrid.data.duplicates import fold

FOLDS = 5
WORDS = 10
"""The number of words that are listed."""


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


def tell_apart(drafts: Sequence[str], real: Sequence[str]) -> dict[str, object]:
    """Measure how well a classifier on words tells drafts from real texts of the class, and by which words.

    `auroc` is cross-fitted: 0.5 if the two cannot be told apart, 1 if they always can. `words` are the ten words that
    speak most for a draft: what the drafts over-use. Empty where either side has fewer texts than folds.
    """
    if min(len(drafts), len(real)) < FOLDS:
        return {}
    texts, written = [*drafts, *real], np.repeat([1, 0], [len(drafts), len(real)])
    model = make_pipeline(
        TfidfVectorizer(sublinear_tf=True, token_pattern=r"\S+"),
        LogisticRegression(C=10, class_weight="balanced", max_iter=1000),
    )
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    probs = cross_val_predict(model, texts, written, cv=folds, method="predict_proba")[:, 1]
    model.fit(texts, written)
    words, weights = model[0].get_feature_names_out(), model[1].coef_[0]
    strongest = [str(words[i]) for i in np.argsort(-weights)[:WORDS] if weights[i] > 0]
    return {"auroc": round(float(roc_auc_score(written, probs)), 4), "words": strongest}
