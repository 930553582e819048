"""A scikit-learn classifier of texts that is trained by `hybrid.fit`."""

import tempfile
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from hybrid.errors import DataError
from hybrid.from_python.fit import fit
from hybrid.overrides import merge
from hybrid.runtime.cascade import Classifier, load

SPLIT = {"calibration": 0.2, "test": 0.1}
"""The rows that calibrate, and those that the run's own report judges by; scikit-learn tests on rows of its own."""


class HybridClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A classifier of texts: noisy labels cleaned, a small encoder fine-tuned, calibrated and exported.

    Args:
        encoder: "minilm", "mpnet", "multilingual", "deberta", or a model as `hybrid.fit` takes it.
        epochs: passes over the training rows; None, here and in the next three: the recipe's default.
        batch_size: rows of a step.
        learning_rate: the highest of the schedule.
        max_length: tokens of a text that are read.
        teacher: the language model that verifies labels, as `hybrid.fit` takes it; empty: none.
        budget_usd: the most that the teacher may cost in one fit.
        settings: further settings of a recipe by section, such as `{"quantize": {"precision": "fp32"}}`.
        run_dir: the folder under which the runs are kept, one for each set of rows, so that the same fit resumes; None: a
            temporary one that goes with the estimator.
        random_state: the seed, an integer.
        quiet: whether nothing is printed.

    Attributes:
        classes_: the labels, sorted.
        metrics_: the figures of the run (`hybrid.Fitted.metrics`).
        bundle_: the folder of the bundle, to copy and to ship.
    """

    def __init__(
        self,
        *,
        encoder: str | Mapping[str, Any] = "",
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        max_length: int | None = None,
        teacher: str | Mapping[str, Any] = "",
        budget_usd: float | None = None,
        settings: Mapping[str, Any] | None = None,
        run_dir: str | Path | None = None,
        random_state: int = 0,
        quiet: bool = True,
    ) -> None:
        self.encoder = encoder
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.max_length = max_length
        self.teacher = teacher
        self.budget_usd = budget_usd
        self.settings = settings
        self.run_dir = run_dir
        self.random_state = random_state
        self.quiet = quiet

    def fit(self, X: Any, y: Any) -> "HybridClassifier":  # noqa: N803 (scikit-learn's name)
        """Train on the texts X, a sequence of n strings, with their labels y [n].

        Raises:
            DataError: X is no sequence of texts, or a label has too few rows to train, calibrate and test.
            HybridError: whatever else the user can mend.
        """
        texts = _texts(X)
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None: expected the label of each text")
        labels = np.asarray(y)
        if labels.ndim != 1 or len(labels) != len(texts):
            raise ValueError(f"y has the shape {labels.shape}; expected one label for each of the {len(texts)} texts")
        check_classification_targets(labels)
        classes, codes = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise ValueError("y has one class; a classifier cannot be trained on it: expected two or more")
        names = [str(label) for label in classes.tolist()]
        settings = self._recipe(names)
        temporary = tempfile.TemporaryDirectory(prefix="hybrid-") if self.run_dir is None else None
        root = Path(temporary.name if temporary else self.run_dir or "")
        result = fit(
            {"text": texts, "label": [names[code] for code in codes]},
            encoder=self._encoder(),
            teacher=self.teacher,
            budget_usd=self.budget_usd,
            run_dir=root / f"run-{_digest(texts, codes)}",
            quiet=self.quiet,
            **settings,
        )
        self.classes_ = classes
        self.metrics_ = result.metrics
        self.bundle_ = result.bundle
        self._temporary = temporary
        self._classifier: Classifier | None = result.classifier
        return self

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the label of each text of X, an array [n] of the labels' own type.

        Raises:
            NotFittedError: `fit` was not called.
            DataError: X is no sequence of texts.
        """
        probs = self.predict_proba(X)
        return np.asarray(self.classes_[probs.argmax(axis=1)])

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return the calibrated probability of each class, float64 of shape [n, k], in the order of `classes_`.

        Raises:
            NotFittedError: `fit` was not called.
            DataError: X is no sequence of texts.
        """
        check_is_fitted(self, "bundle_")
        texts = _texts(X)
        if self._classifier is None:
            self._classifier = load(self.bundle_)
        position = {label: i for i, label in enumerate(self._classifier.bundle.labels)}
        order = [position[str(label)] for label in self.classes_.tolist()]
        return self._classifier.probs(texts)[:, order]

    def _encoder(self) -> Mapping[str, Any]:
        """The settings of the encoder: those that were given, then `max_length`."""
        given = dict(self.encoder) if isinstance(self.encoder, Mapping) else {"model": self.encoder or "minilm"}
        return given if self.max_length is None else given | {"max_length": self.max_length}

    def _recipe(self, names: Sequence[str]) -> dict[str, Any]:
        """The settings of the recipe beside those that `hybrid.fit` has arguments for."""
        train = {"epochs": self.epochs, "batch_size": self.batch_size, "learning_rate": self.learning_rate}
        named = {
            "seed": self.random_state,
            "labels": list(names),
            "split": SPLIT,
            # Two classes of y are two classes, however alike their names are.
            "data": {"alike_labels": "keep"},
            "train": {key: value for key, value in train.items() if value is not None},
        }
        return merge({key: value for key, value in named.items() if value != {}}, self.settings or {})

    def __getstate__(self) -> dict[str, Any]:
        """The state for a pickle: the files of the bundle travel in it, so that it can be opened anywhere."""
        state: dict[str, Any] = dict(super().__getstate__())
        if "bundle_" in state:
            files = [path for path in sorted(self.bundle_.rglob("*")) if path.is_file()]
            state["_files"] = {path.relative_to(self.bundle_).as_posix(): path.read_bytes() for path in files}
            for name in ("_temporary", "_classifier", "bundle_"):
                state.pop(name)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Open a pickle: the bundle is written into a temporary folder that goes with the estimator."""
        files = state.pop("_files", None)
        super().__setstate__(state)
        if files is None:
            return
        self._temporary = tempfile.TemporaryDirectory(prefix="hybrid-")
        self.bundle_ = Path(self._temporary.name, "bundle")
        for name, content in files.items():
            path = self.bundle_ / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self._classifier = None

    def __sklearn_tags__(self) -> Any:
        """Say that the input is a sequence of texts."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.target_tags.required = True
        return tags


def _texts(values: Any) -> list[str]:
    """The texts of X: a list, an array or a column of a DataFrame.

    Raises:
        DataError: it is something else, or a text is empty.
    """
    if isinstance(values, str | bytes | Mapping) or not hasattr(values, "__iter__") or getattr(values, "ndim", 1) != 1:
        shape = f" of the shape {values.shape}" if hasattr(values, "shape") else ""
        raise DataError(
            f"X: got a {type(values).__name__}{shape}; expected a sequence of texts, such as a column of a DataFrame"
        )
    texts = list(values)
    for number, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise DataError(f"X: text {number} is {text!r:.40}; expected a string that is not empty")
    return [str(text) for text in texts]


def _digest(texts: Sequence[str], codes: np.ndarray) -> str:
    """A name for a set of rows: the same rows go on in the same run."""
    digest = sha256(codes.tobytes())
    for text in texts:
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return digest.hexdigest()[:12]
