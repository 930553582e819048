"""Import labels and rationales from elsewhere (annotators, another system) as the votes of a named source."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from hybrid.config import NO_VOTE
from hybrid.data.annotations import is_no_vote
from hybrid.data.row_ids import RowIndex, is_line_id
from hybrid.data.sheets import read_data
from hybrid.errors import DataError
from hybrid.files.sheet import Cells, Sheet
from hybrid.label_sets import label_named
from hybrid.types import Example, Part, Vote, VoteStatus

COLUMNS = ("id", "text", "label", "rationale", "confidence", "source")


def read_votes(
    files: Sequence[str], folder: Path, rows: Sequence[Example], labels: Sequence[str], *, part: Part = "train"
) -> list[Vote]:
    """Read votes on the rows of a part from files with the columns `label` and `id`, `text` or both, in the order of the lines.

    A line with a text is about the rows with this text; its id tells rows with the same text apart. Optional columns are
    `rationale`, `confidence` (0 to 1) and `source`, which defaults to the file's name. A source's later votes on the same
    row are further samples. An empty label is an abstention, and so are the values of `hybrid.config.NO_VOTE`; another
    label that is not in the set, case and outer white space aside, is unreadable, as a teacher's is. Votes on rows of other
    parts are passed over.

    Args:
        files: csv, tsv, jsonl, parquet or xlsx; relative ones count from `folder`.

    Raises:
        DataError: a column is missing, no row has a line's id or its text, no label of a file is in the set, or a
            confidence is not a number from 0 to 1.
    """
    index = RowIndex(rows)
    n_samples: Counter[tuple[str, str]] = Counter()
    votes = []
    for file in files:
        sheet = read_data(file, folder, "verify.imports", COLUMNS)
        _check_columns(sheet, file)
        of_file = [
            (row, _vote(row.id, cells, sheet.stem, sheet.where(number), labels, n_samples))
            for number, cells in sheet.records
            for row in _rows_of(cells, sheet.where(number), index)
        ]
        _check_votes([vote for _, vote in of_file], file, labels)
        votes += [vote for row, vote in of_file if row.part == part]
    return votes


def tally(votes: Sequence[Vote]) -> dict[str, int]:
    """Count the votes with a label, by source."""
    return dict(Counter(vote.voter for vote in votes if vote.status == "ok"))


def tally_without_label(votes: Sequence[Vote]) -> dict[str, dict[str, int]]:
    """Count the votes without a label by source: how many abstained, and how many had a label that is not in the set."""
    counts: dict[str, Counter[str]] = {}
    for vote in votes:
        if vote.status != "ok":
            counts.setdefault(vote.voter, Counter())[vote.status] += 1
    return {source: dict(of_source) for source, of_source in counts.items()}


def _check_votes(votes: Sequence[Vote], file: str, labels: Sequence[str]) -> None:
    """Raise `DataError` where a file has labels and none of them is in the set."""
    unreadable = [vote for vote in votes if vote.status == "unreadable"]
    if unreadable and not any(vote.status == "ok" for vote in votes):
        raise DataError(
            f"{file}: none of its labels is one of the recipe's ({', '.join(labels)}); the first: {unreadable[0].reason}"
        )


def _check_columns(sheet: Sheet, file: str) -> None:
    missing = "label" if "label" not in sheet.columns else "" if {"id", "text"} & {*sheet.columns} else "id"
    if missing:
        raise DataError(
            f"{file}: no column {missing!r}; expected label, id or text, and optionally {', '.join(COLUMNS[3:])}"
        )


def _rows_of(cells: Cells, where: str, index: RowIndex) -> Sequence[Example]:
    """Return the rows that a line is about; there is at least one."""
    row_id, text = _cell(cells, "id"), _cell(cells, "text")
    rows = index.find_text(row_id, text)
    if rows:
        return rows
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
    source, cell = _cell(cells, "source") or stem, _cell(cells, "label")
    label = label_named(cell, labels)
    status: VoteStatus = "ok" if label else "abstained" if is_no_vote(cell, NO_VOTE, labels) else "unreadable"
    sample = n_samples[source, row_id]
    n_samples[source, row_id] += 1
    reasons: dict[VoteStatus, str] = {
        "ok": "",
        "abstained": f"no vote: {cell!r} in the file" if cell else "no label in the file",
        "unreadable": f"{cell!r} is not one of the labels",
    }
    return Vote(
        id=row_id,
        status=status,
        label=label,
        rationale=_cell(cells, "rationale"),
        confidence=_confidence(_cell(cells, "confidence"), where),
        teacher=source,
        sample=sample,
        reason=reasons[status],
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
