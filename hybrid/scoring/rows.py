"""The text of a record that is scored, and the columns that its answer adds to it."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from hybrid.errors import DataError
from hybrid.files.formats import format_of
from hybrid.files.formats.records import SHOWN, AddedColumns, Batch, Cell, ColumnKind, Record, Table
from hybrid.types import Prediction

_log = logging.getLogger(__name__)


class Problem(msgspec.Struct, frozen=True):
    """Why a row has no answer: where it is, what was expected and what it holds."""

    reason: str


def texts_of(batch: Batch, table: Table, column: str) -> list[str | Problem]:
    """Return the text of each record of a batch, or why there is none to score."""
    return [_text_of(record, table, column) for record in batch.records]


def _text_of(record: Record, table: Table, column: str) -> str | Problem:
    if record.problem:
        return Problem(record.problem)
    value = record.values.get(column)
    if isinstance(value, str) and not value.isspace() and value:
        return value
    where = table.where(record.number)
    if column not in record.values:
        return Problem(f"{where}: no field {column!r}; there are {', '.join(map(repr, record.names)) or 'none'}")
    if value is None:
        return Problem(f"{where}: {column!r} is null; expected a text")
    if isinstance(value, str):
        return Problem(f"{where}: {column!r} is empty; expected a text")
    return Problem(f"{where}: {column!r} is {value.spelling:.{SHOWN}}; expected a string")


def read_texts(path: Path, column: str) -> Iterator[str]:
    """Yield the text of each row of a file.

    Raises:
        DataError: the file or a row cannot be read, or there is no such column.
    """
    with format_of(path).open(path, name=str(path), columns=(column,)) as table:
        if table.note:
            _log.warning("%s: %s", path, table.note)
        if table.header is not None and (not column or column not in table.header):
            names = ", ".join(filter(None, table.header)) or "none"
            raise DataError(f"{path}: no column {column!r}; there are {names}: name one with --text")
        for text in (text for batch in table.batches for text in texts_of(batch, table, column)):
            if isinstance(text, Problem):
                raise DataError(text.reason)
            yield text


def added_columns(labels: tuple[str, ...], *, prefix: str, probs: bool, errors: bool) -> AddedColumns:
    """Return the columns that scoring adds; `probs` and `errors` decide on two of them."""
    kinds: dict[str, ColumnKind] = {"label": "text", "confidence": "number", "escalate": "flag", "truncated": "flag"}
    if probs:
        kinds["probs"] = "probs"
    if errors:
        kinds["error"] = "text"
    return AddedColumns({prefix + name: kind for name, kind in kinds.items()}, labels)


def added_cells(answers: Sequence[Prediction | Problem], *, probs: bool, errors: bool) -> list[list[Cell]]:
    """Return the added cells of each row, in the order of `added_columns`."""
    return [_cells(answer, probs=probs, errors=errors) for answer in answers]


def _cells(answer: Prediction | Problem, *, probs: bool, errors: bool) -> list[Cell]:
    if isinstance(answer, Problem):
        return [*[None] * (4 + probs), *[answer.reason] * errors]
    cells: list[Cell] = [answer.label, answer.confidence, answer.escalate, answer.truncated]
    return cells + [answer.probs] * probs + [None] * errors
