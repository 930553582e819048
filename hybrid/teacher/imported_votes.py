"""Labels and rationales that came from elsewhere, annotators or another system's job, as votes of a named source."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from hybrid.data.sheets import read_data
from hybrid.errors import DataError
from hybrid.files.sheet import Cells
from hybrid.types import Example, Vote

COLUMNS = ("id", "label", "rationale", "confidence", "source")


def read_votes(files: Sequence[str], folder: Path, rows: Sequence[Example], labels: Sequence[str]) -> list[Vote]:
    """Return the votes on training rows in files with columns `id` and `label`, in the order of the lines.

    Further columns may be `rationale`, `confidence` (0 to 1) and `source`; without a source it is the
    file's name. A source's later votes on the same row are further samples. An empty label is an
    abstention. Rows of the other parts are left out: no vote may correct the rows that judge.

    Args:
        files: csv, tsv, jsonl or parquet; relative ones count from `folder`.

    Raises:
        DataError: a column is missing, an id stands in no row, a label is not one of the recipe's, or a
            confidence is no number from 0 to 1.
    """
    part = {row.id: row.part for row in rows}
    seen: Counter[tuple[str, str]] = Counter()
    votes = []
    for file in files:
        sheet = read_data(file, folder, "verify.imports", COLUMNS)
        missing = [name for name in ("id", "label") if name not in sheet.columns]
        if missing:
            raise DataError(
                f"{file}: no column {missing[0]!r}; want id and label, and where known {', '.join(COLUMNS[2:])}"
            )
        for number, cells in sheet.records:
            where = sheet.where(number)
            vote = _vote(cells, sheet.stem, where, labels, seen)
            if vote.id not in part:
                raise DataError(f"{where}: id {vote.id!r} is no row of the data; correct it or remove the line")
            if part[vote.id] == "train":
                votes.append(vote)
    return votes


def tally(votes: Sequence[Vote]) -> dict[str, int]:
    """Return how many votes with a label each source gave."""
    return dict(Counter(vote.voter for vote in votes if vote.status == "ok"))


def _vote(cells: Cells, stem: str, where: str, labels: Sequence[str], seen: Counter[tuple[str, str]]) -> Vote:
    source, row_id, label = _cell(cells, "source") or stem, _cell(cells, "id"), _cell(cells, "label")
    if label and label not in labels:
        raise DataError(
            f"{where}: label {label!r} is not one of the recipe's ({', '.join(labels)}); write one of those there"
        )
    sample = seen[source, row_id]
    seen[source, row_id] += 1
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


def _confidence(said: str, where: str) -> float | None:
    if not said:
        return None
    try:
        value = float(said)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise DataError(f"{where}: confidence {said!r}: want a number from 0 to 1; correct it or leave it empty")
    return value
