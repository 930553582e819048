"""The baseline that every encoder has to beat: TF-IDF with logistic regression."""

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

REGULARISATION = 10.0  # the inverse strength that suits TF-IDF rows of unit length


def tfidf_predictions(texts: Sequence[str], targets: np.ndarray, unseen: Sequence[str]) -> np.ndarray:
    """Return the predicted class index of each unseen text, shape [n], from words and character n-grams."""
    features = make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, max_features=200_000),
    )
    model = make_pipeline(features, LogisticRegression(C=REGULARISATION, max_iter=500))
    model.fit(texts, targets)
    predicted: np.ndarray = model.predict(unseen)
    return predicted
