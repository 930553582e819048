"""The baseline that every encoder has to beat: TF-IDF features with logistic regression."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import label_binarize, normalize

from hybrid.evaluation.metrics import accuracy, macro_f1
from hybrid.evaluation.set_metrics import macro_f1_of_sets, subset_accuracy
from hybrid.label_sets import index_by_label, label_matrix
from hybrid.types import Example, Task

REGULARISATION = 10.0  # the inverse strength that suits TF-IDF rows of unit length
MOST_LABELS = 100
"""With more labels, logistic regression needs gigabytes: a weight for each label and n-gram, with many copies while it
fits."""
DIGITS = 6


def baselines(
    train: Sequence[Example],
    targets: Mapping[str, Sequence[str]],
    test: Sequence[Example],
    labels: Sequence[str],
    *,
    task: Task = "single_label",
) -> dict[str, dict[str, float]]:
    """Score TF-IDF with a linear model on the test rows: accuracy and macro-F1 by the name of its training labels.

    `targets` holds the training labels of each name, in row order. With several labels a row and more than
    `MOST_LABELS` labels it is empty: a regression for each label takes too long.
    """
    if task == "multi_label" and len(labels) > MOST_LABELS:
        return {}
    texts, test_texts, test_labels = [r.text for r in train], [r.text for r in test], [r.label for r in test]
    scores: dict[str, dict[str, float]] = {}
    for name, target in targets.items():
        same = next((other for other in scores if list(targets[other]) == list(target)), None)
        if same is not None:
            scores[name] = scores[same]
            continue
        if task == "multi_label":
            gold_sets = label_matrix(test_labels, labels)
            chosen = tfidf_sets(texts, label_matrix(target, labels), test_texts)
            pair = subset_accuracy(gold_sets, chosen), macro_f1_of_sets(gold_sets, chosen)
        else:
            position = index_by_label(labels)
            indices, gold = (np.array([position[label] for label in names]) for names in (target, test_labels))
            predicted = tfidf_predictions(texts, indices, test_texts)
            pair = accuracy(gold, predicted), macro_f1(gold, predicted, len(labels))
        scores[name] = {"accuracy": round(pair[0], DIGITS), "macro_f1": round(pair[1], DIGITS)}
    return scores


def tfidf_predictions(texts: Sequence[str], targets: np.ndarray, unseen: Sequence[str]) -> np.ndarray:
    """Predict the class index of each unseen text, shape [n], from word and character n-grams.

    With more than `MOST_LABELS` classes it is the class with the nearest centroid by cosine (Rocchio 1971).
    """
    if len(np.unique(targets)) > MOST_LABELS:
        return _nearest_centroid(texts, targets, unseen)
    model = make_pipeline(_features(), LogisticRegression(C=REGULARISATION, max_iter=500))
    model.fit(texts, targets)
    predicted: np.ndarray = model.predict(unseen)
    return predicted


def tfidf_sets(texts: Sequence[str], targets: np.ndarray, unseen: Sequence[str]) -> np.ndarray:
    """Predict the labels of each unseen text, truth values [n, k], with one regression for each label.

    `targets` [m, k] are truth values. A label that all training texts have, or none, is given to all or to none.
    """
    always = np.asarray(targets.all(axis=0))
    chosen = np.tile(always, (len(unseen), 1))
    varies = targets.any(axis=0) & ~always
    model = make_pipeline(_features(), OneVsRestClassifier(LogisticRegression(C=REGULARISATION, max_iter=500)))
    model.fit(texts, targets[:, varies].astype(int))
    chosen[:, varies] = np.asarray(model.predict(unseen)).reshape(len(unseen), -1)
    return chosen


def _features() -> Any:
    return make_union(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
        TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, max_features=200_000),
    )


def _nearest_centroid(texts: Sequence[str], targets: np.ndarray, unseen: Sequence[str]) -> np.ndarray:
    features = _features()
    train_features, unseen_features = features.fit_transform(texts), features.transform(unseen)
    classes = np.unique(targets)
    is_class = label_binarize(targets, classes=classes, sparse_output=True)
    centroids = normalize(is_class.T @ train_features)
    return np.asarray(classes[np.asarray((unseen_features @ centroids.T).argmax(axis=1)).ravel()])
