"""The scikit-learn estimator: what scikit-learn asks of any estimator, as far as texts allow, and real training."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator

from hybrid.errors import DataError
from hybrid.sklearn import HybridClassifier
from tests.corpus import texts_and_gold

TEXTS, LABELS = texts_and_gold(150)
SETTINGS = {
    "split": {"calibration": 30, "test": 20, "near_duplicate": 0.98},
    "calibrate": {"folds": 2},
    "evaluate": {"bootstrap": 50},
}
TRAINS_ON_NUMBERS = dict.fromkeys(
    (
        "check_fit_score_takes_y",
        "check_estimators_overwrite_params",
        "check_dont_overwrite_parameters",
        "check_estimators_fit_returns_self",
        "check_readonly_memmap_input",
        "check_positive_only_tag_during_fit",
    ),
    "it fits the estimator to a table of random numbers, and this one takes texts",
)
"""The checks of scikit-learn's own list for every estimator that cannot pass, with the reason."""


@pytest.fixture(scope="module")
def estimator(bert: Path) -> HybridClassifier:
    return HybridClassifier(
        encoder=str(bert), epochs=4, batch_size=8, learning_rate=5e-3, max_length=32, settings=SETTINGS
    )


@pytest.fixture(scope="module")
def fitted(estimator: HybridClassifier) -> HybridClassifier:
    # Labels that are no strings, as scikit-learn allows.
    codes = np.array([{"bad": 0, "good": 1, "plain": 2}[label] for label in LABELS])
    return clone(estimator).fit(TEXTS, codes)


@pytest.mark.filterwarnings("ignore:Can't test estimator:sklearn.exceptions.SkipTestWarning")
def test_scikit_learns_checks_pass_but_those_that_need_numbers() -> None:
    estimator = HybridClassifier()
    name = type(estimator).__name__
    assert is_classifier(estimator)
    results = check_estimator(estimator, expected_failed_checks=TRAINS_ON_NUMBERS, on_fail="raise")
    assert {result["status"] for result in results} == {"passed"}
    # For an estimator that takes no table it ends early: the rest of its list, one by one.
    failed = set()
    for check in estimator_checks._yield_api_checks(estimator):
        check_name = getattr(check, "__name__", None) or check.func.__name__
        try:
            check(name, clone(estimator))
        except (DataError, AssertionError, IndexError):
            failed.add(check_name)
    assert failed == set(TRAINS_ON_NUMBERS)
    estimator_checks.check_parameters_default_constructible(name, estimator)
    estimator_checks.check_get_params_invariance(name, estimator)
    estimator_checks.check_set_params(name, estimator)


@pytest.mark.slow
def test_it_predicts_labels_of_the_type_that_it_was_given(fitted: HybridClassifier) -> None:
    assert fitted.classes_.tolist() == [0, 1, 2]
    probs = fitted.predict_proba(TEXTS)
    assert probs.shape == (150, 3)
    assert np.allclose(probs.sum(axis=1), 1)
    predicted = fitted.predict(pandas.Series(TEXTS))
    assert predicted.dtype == fitted.classes_.dtype
    assert (predicted == probs.argmax(axis=1)).all()
    assert fitted.metrics_["rows"] == {"train": 100, "calibration": 30, "test": 20}


@pytest.mark.slow
def test_a_pickle_carries_the_bundle(fitted: HybridClassifier) -> None:
    copy = pickle.loads(pickle.dumps(fitted))
    assert copy.bundle_ != fitted.bundle_
    assert (copy.predict_proba(TEXTS[:9]) == fitted.predict_proba(TEXTS[:9])).all()
    again = pickle.loads(pickle.dumps(copy))
    del copy
    assert again.predict(TEXTS[:3]).tolist() == fitted.predict(TEXTS[:3]).tolist()


@pytest.mark.slow
def test_it_works_in_a_pipeline_and_a_grid_search(estimator: HybridClassifier) -> None:
    lower = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    pipeline = Pipeline([("lower", lower), ("classify", estimator)])
    search = GridSearchCV(pipeline, {"classify__epochs": [1]}, cv=2, refit=False, error_score="raise")
    search.fit(TEXTS, LABELS)
    assert 0 <= search.cv_results_["mean_test_score"][0] <= 1


@pytest.mark.parametrize(
    ("texts", "labels", "message"),
    [
        pytest.param(
            np.zeros((3, 2)),
            [0, 1, 0],
            r"got a ndarray of the shape \(3, 2\); expected a sequence of texts",
            id="table",
        ),
        pytest.param("text", [0], "got a str; expected a sequence of texts", id="one text"),
        pytest.param(["a", 3], [0, 1], "text 1 is 3; expected a string", id="number"),
    ],
)
def test_what_is_no_text_is_refused(texts: Any, labels: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        HybridClassifier().fit(texts, labels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        pytest.param(None, "requires y to be passed, but the target y is None", id="none"),
        pytest.param([0], "expected one label for each of the 2 texts", id="length"),
        pytest.param([1, 1], "y has one class", id="one class"),
        pytest.param([0.5, 1.7], "Unknown label type: continuous", id="regression"),
    ],
)
def test_labels_that_cannot_be_learned_are_refused(labels: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        HybridClassifier().fit(["a", "b"], labels)


def test_an_estimator_that_was_not_fitted_says_so() -> None:
    with pytest.raises(NotFittedError):
        HybridClassifier().predict(["a text"])
