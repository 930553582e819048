"""The baseline that every encoder has to beat: TF-IDF with logistic regression."""

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
from hybrid.label_sets import label_matrix
from hybrid.types import Example, Task

REGULARISATION = 10.0  # the inverse strength that suits TF-IDF rows of unit length
MOST_LABELS = 100
"""Beyond so many, logistic regression holds gigabytes: a weight a label and n-gram, and many copies while it fits."""
DIGITS = 6


def baselines(
    train: Sequence[Example],
    targets: Mapping[str, Sequence[str]],
    test: Sequence[Example],
    labels: Sequence[str],
    *,
    task: Task = "single_label",
) -> dict[str, dict[str, float]]:
    """Return accuracy and macro-F1 of TF-IDF with a linear model, by the name of its training labels.

    Empty for several labels a row where there are more than `MOST_LABELS`: a regression a label takes too long.
    """
    if task == "multi_label" and len(labels) > MOST_LABELS:
        return {}
    texts, asked, said = [row.text for row in train], [row.text for row in test], [row.label for row in test]
    found: dict[str, dict[str, float]] = {}
    for name, target in targets.items():
        same = next((other for other in found if list(targets[other]) == list(target)), None)
        if same is not None:
            found[name] = found[same]
            continue
        if task == "multi_label":
            gold = label_matrix(said, labels)
            chosen = tfidf_sets(texts, label_matrix(target, labels), asked)
            scores = subset_accuracy(gold, chosen), macro_f1_of_sets(gold, chosen)
        else:
            place = {label: index for index, label in enumerate(labels)}
            indices, wanted = (np.array([place[label] for label in side]) for side in (target, said))
            predicted = tfidf_predictions(texts, indices, asked)
            scores = accuracy(wanted, predicted), macro_f1(wanted, predicted, len(labels))
        found[name] = {"accuracy": round(scores[0], DIGITS), "macro_f1": round(scores[1], DIGITS)}
    return found


def tfidf_predictions(texts: Sequence[str], targets: np.ndarray, unseen: Sequence[str]) -> np.ndarray:
    """Return the predicted class index of each unseen text, shape [n], from words and character n-grams.

    With more than `MOST_LABELS` classes it is the class with the nearest centroid by cosine (Rocchio 1971).
    """
    if len(np.unique(targets)) > MOST_LABELS:
        return _nearest_centroid(texts, targets, unseen)
    model = make_pipeline(_features(), LogisticRegression(C=REGULARISATION, max_iter=500))
    model.fit(texts, targets)
    predicted: np.ndarray = model.predict(unseen)
    return predicted


def tfidf_sets(texts: Sequence[str], targets: np.ndarray, unseen: Sequence[str]) -> np.ndarray:
    """Return which unseen text is given which label, truth values [n, k], one regression a label.

    `targets` [m, k] are truth values. A label that all texts have or none has is given to all or none.
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
    known, asked = features.fit_transform(texts), features.transform(unseen)
    classes = np.unique(targets)
    of_class = label_binarize(targets, classes=classes, sparse_output=True)
    centroids = normalize(of_class.T @ known)
    return np.asarray(classes[np.asarray((asked @ centroids.T).argmax(axis=1)).ravel()])
