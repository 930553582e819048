"""Import labels and rationales from elsewhere (annotators, another system) as the votes of a named source."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from hybrid.data.row_ids import RowIndex, is_line_id, text_key
from hybrid.data.sheets import read_data
from hybrid.errors import DataError
from hybrid.files.sheet import Cells, Sheet
from hybrid.types import Example, Vote

COLUMNS = ("id", "text", "label", "rationale", "confidence", "source")


def read_votes(files: Sequence[str], folder: Path, rows: Sequence[Example], labels: Sequence[str]) -> list[Vote]:
    """Read votes on training rows from files with the columns `label` and `id`, `text` or both, in the order of the lines.

    A line with a text is about the rows with this text; its id tells rows with the same text apart. Optional columns are
    `rationale`, `confidence` (0 to 1) and `source`, which defaults to the file's name. A source's later votes on the same
    row are further samples. An empty label is an abstention. Votes on calibration and test rows are ignored: no vote may
    change the labels that judge the model.

    Args:
        files: csv, tsv, jsonl or parquet; relative ones count from `folder`.

    Raises:
        DataError: a column is missing, no row has a line's id or its text, a label is not one of the recipe's, or a
            confidence is not a number from 0 to 1.
    """
    index = RowIndex(rows)
    n_samples: Counter[tuple[str, str]] = Counter()
    votes = []
    for file in files:
        sheet = read_data(file, folder, "verify.imports", COLUMNS)
        _check_columns(sheet, file)
        for number, cells in sheet.records:
            where = sheet.where(number)
            for row in _rows_of(cells, where, index):
                vote = _vote(row.id, cells, sheet.stem, where, labels, n_samples)
                if row.part == "train":
                    votes.append(vote)
    return votes


def tally(votes: Sequence[Vote]) -> dict[str, int]:
    """Count the votes with a label, by source."""
    return dict(Counter(vote.voter for vote in votes if vote.status == "ok"))


def _check_columns(sheet: Sheet, file: str) -> None:
    missing = "label" if "label" not in sheet.columns else "" if {"id", "text"} & {*sheet.columns} else "id"
    if missing:
        raise DataError(
            f"{file}: no column {missing!r}; expected label, id or text, and optionally {', '.join(COLUMNS[3:])}"
        )


def _rows_of(cells: Cells, where: str, index: RowIndex) -> Sequence[Example]:
    """Return the rows that a line is about; there is at least one."""
    row_id, text = _cell(cells, "id"), _cell(cells, "text")
    found = index.find(row_id, text_key(text) if text else "")
    if found:
        return found
    if text:
        mismatch = f", and the row with the id {row_id!r} has another" if row_id in index else ""
        raise DataError(f"{where}: no row of the data has this text{mismatch}; correct the line or remove it")
    if is_line_id(row_id) and index.by_content:
        raise DataError(
            f"{where}: id {row_id!r} names a row by its line, and lines move; add a column text with the text of each "
            "row, or set data.id to a column of ids"
        )
    raise DataError(f"{where}: id {row_id!r} matches no row of the data; correct it or remove the line")


def _vote(
    row_id: str, cells: Cells, stem: str, where: str, labels: Sequence[str], n_samples: Counter[tuple[str, str]]
) -> Vote:
    source, label = _cell(cells, "source") or stem, _cell(cells, "label")
    if label and label not in labels:
        raise DataError(
            f"{where}: label {label!r} is not one of the recipe's ({', '.join(labels)}); write one of those there"
        )
    sample = n_samples[source, row_id]
    n_samples[source, row_id] += 1
    return Vote(
        id=row_id,
        status="ok" if label else "abstained",
        label=label or None,
        rationale=_cell(cells, "rationale"),
        confidence=_confidence(_cell(cells, "confidence"), where),
        teacher=source,
        sample=sample,
        reason="" if label else "no label in the file",
    )


def _cell(cells: Mapping[str, str | None], name: str) -> str:
    return (cells.get(name) or "").strip()


def _confidence(cell: str, where: str) -> float | None:
    if not cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise DataError(f"{where}: confidence {cell!r}: expected a number from 0 to 1; correct it or leave it empty")
    return value
