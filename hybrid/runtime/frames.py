"""DataFrames of pandas and polars at the door of the runtime: texts out of one, answers as one. Imports neither."""

import sys
from collections.abc import Sequence
from typing import Any

from msgspec import UNSET

from hybrid.errors import DataError
from hybrid.types import Prediction

FIELDS = ("label", "confidence", "escalate", "status", "source", "escalation", "rationale", "reason", "truncated")
"""The fields of a prediction that become columns."""
PROB = "prob_"
"""Stands before the label in the name of a column of probabilities."""


def is_frame(value: object) -> bool:
    """Whether a value is a DataFrame of pandas or polars: a library that is not loaded has made no frame."""
    return frame_library(value) != ""


def frame_library(value: object) -> str:
    """Return the library of a DataFrame, "pandas" or "polars"; empty for any other value."""
    for name in ("pandas", "polars"):
        library = sys.modules.get(name)
        kind = getattr(library, "DataFrame", None)  # a library that is being imported has none yet
        if kind is not None and isinstance(value, kind):
            return name
    return ""


def texts_in(frame: Any, column: str) -> list[str]:
    """Return the texts in a column of a frame.

    Raises:
        DataError: there is no such column, or a cell is not a text.
    """
    if column not in list(frame.columns):
        columns = [str(name) for name in frame.columns]
        expected = "name the column of the texts" if column else "expected text=COLUMN beside the frame"
        raise DataError(
            f"classify: no column {column!r} in the frame; it has: {', '.join(columns) or 'none'}; {expected}"
        )
    texts = list(frame[column])
    for number, text in enumerate(texts, start=1):
        if not isinstance(text, str) or not text.strip():
            raise DataError(
                f"classify: row {number} of the column {column!r} is {text!r:.40}; expected a text that is not empty: fill it in "
                "or leave the row out"
            )
    return texts


def answers_frame(frame: Any, predictions: Sequence[Prediction], labels: Sequence[str]) -> Any:
    """Return the predictions as a frame of the same kind as `frame`, with its index."""
    columns: dict[str, list[Any]] = {name: [getattr(answer, name) for answer in predictions] for name in FIELDS}
    for label in labels:
        columns[f"{PROB}{label}"] = [answer.probs[label] for answer in predictions]
    if any(answer.evidence is not UNSET for answer in predictions):
        columns["evidence"] = [[word.text for word in answer.evidence or ()] for answer in predictions]
    library: Any = sys.modules[frame_library(frame)]
    if library.__name__ == "pandas":
        return library.DataFrame(columns, index=frame.index)
    return library.DataFrame(columns)
