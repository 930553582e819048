"""Import labels and rationales from elsewhere (annotators, another system) as the votes of a named source."""

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
    """Read votes on training rows from files with columns `id` and `label`, in the order of the lines.

    Optional columns are `rationale`, `confidence` (0 to 1) and `source`, which defaults to the file's name.
    A source's later votes on the same row are further samples. An empty label is an abstention. Votes on
    calibration and test rows are ignored: no vote may change the labels that judge the model.

    Args:
        files: csv, tsv, jsonl or parquet; relative ones count from `folder`.

    Raises:
        DataError: a column is missing, an id matches no row, a label is not one of the recipe's, or a
            confidence is not a number from 0 to 1.
    """
    part = {row.id: row.part for row in rows}
    n_samples: Counter[tuple[str, str]] = Counter()
    votes = []
    for file in files:
        sheet = read_data(file, folder, "verify.imports", COLUMNS)
        missing = [name for name in ("id", "label") if name not in sheet.columns]
        if missing:
            raise DataError(
                f"{file}: no column {missing[0]!r}; expected id and label, and optionally {', '.join(COLUMNS[2:])}"
            )
        for number, cells in sheet.records:
            where = sheet.where(number)
            vote = _vote(cells, sheet.stem, where, labels, n_samples)
            if vote.id not in part:
                raise DataError(f"{where}: id {vote.id!r} matches no row of the data; correct it or remove the line")
            if part[vote.id] == "train":
                votes.append(vote)
    return votes


def tally(votes: Sequence[Vote]) -> dict[str, int]:
    """Count the votes with a label, by source."""
    return dict(Counter(vote.voter for vote in votes if vote.status == "ok"))


def _vote(cells: Cells, stem: str, where: str, labels: Sequence[str], n_samples: Counter[tuple[str, str]]) -> Vote:
    source, row_id, label = _cell(cells, "source") or stem, _cell(cells, "id"), _cell(cells, "label")
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
