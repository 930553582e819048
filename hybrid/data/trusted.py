"""Trusted rows: training rows with a label that a person has checked, from the gold, an audit file or a review."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from hybrid.errors import DataError
from hybrid.files.formats import FORMATS
from hybrid.files.sheet import read_sheet
from hybrid.types import Example, Gold, Trusted, TrustedSource

REVIEWED = "trusted.jsonl"
"""The file with the answers of a review, beside the runs of a recipe."""
COLUMNS = ("id", "label")


def trusted_rows(
    rows: Sequence[Example],
    gold: Sequence[Gold],
    labels: Sequence[str],
    *,
    n_gold: int,
    audit: Sequence[Path],
    reviewed: Path,
    seed: int,
) -> list[Trusted]:
    """Return the trusted training rows, in row order, each once: a review overrules an audit, and an audit the gold.

    Args:
        rows: the rows of all parts; only training rows are returned, because no other row may train.
        n_gold: how many of the training rows with gold are declared trusted.
        audit: the files of trusted rows.
        reviewed: the file with the answers of a review; it need not exist.
        seed: decides which rows with gold are drawn.

    Raises:
        DataError: fewer training rows have gold than are declared trusted, or a file is wrong.
    """
    by_id = {row.id: row for row in draw_trusted(rows, gold, n_gold, seed)}
    for path in audit:
        by_id |= {row.id: row for row in read_trusted(path, rows, labels)}
    if reviewed.exists():
        by_id |= {row.id: row for row in read_trusted(reviewed, rows, labels, source="review")}
    return [by_id[row.id] for row in rows if row.id in by_id]


def draw_trusted(rows: Sequence[Example], gold: Sequence[Gold], n: int, seed: int) -> list[Trusted]:
    """Draw `n` training rows with their gold labels, in proportion to the given labels.

    Raises:
        DataError: fewer training rows have gold.
    """
    label = {row.id: row.label for row in gold}
    known = [row for row in rows if row.part == "train" and row.id in label]
    if n > len(known):
        raise DataError(
            f"data.trusted = {n}: {len(known)} training rows have gold; lower it, or name a file of trusted rows in "
            "data.audit"
        )
    # Every (len / n)th row in the order of the given labels, so that each label gets its share.
    order = np.random.default_rng(seed).permutation(len(known))
    by_label = sorted((known[i] for i in order), key=lambda row: row.label)
    drawn = [by_label[int((i + 0.5) * len(known) / n)] for i in range(n)]
    return [Trusted(id=row.id, label=label[row.id], source="gold") for row in drawn]


def read_trusted(
    path: Path, rows: Sequence[Example], labels: Sequence[str], source: TrustedSource = "audit"
) -> list[Trusted]:
    """Read the trusted rows in a file with the columns `id` and `label`, each row once.

    Rows of the other parts are left out: they calibrate and test, and may not train. The last line of a row counts.

    Raises:
        DataError: a line cannot be read, an id is no row of the data, or a label is not one of the recipe's.
    """
    part = {row.id: row.part for row in rows}
    by_id: dict[str, Trusted] = {}
    for where, row_id, label in _records(path):
        if row_id not in part:
            raise DataError(f"{where}: id {row_id!r} is no row of the data; correct it or remove the line")
        if label not in labels:
            raise DataError(
                f"{where}: label {label!r} is not one of the recipe's ({', '.join(labels)}); write one of those there"
            )
        if part[row_id] == "train":
            by_id[row_id] = Trusted(id=row_id, label=label, source=source)
    return list(by_id.values())


def _records(path: Path) -> Iterator[tuple[str, str, str]]:
    """Yield place, id and label of each record of an audit; a file whose name has no known ending is read as csv."""
    known = any(path.suffix.lower() in file_format.suffixes for file_format in FORMATS.values())
    sheet = read_sheet(path, COLUMNS, file_format=None if known else FORMATS["csv"])
    if sheet.has_header:
        for column in COLUMNS:
            if column not in sheet.columns:
                raise DataError(f"{path}: no column {column!r} in its first line; expected id and label")
    for number, cells in sheet.records:
        where = sheet.where(number)
        for column in COLUMNS:
            if column not in cells:
                raise DataError(f"{where}: no {column!r}; expected id and label")
        yield where, (cells["id"] or "").strip(), (cells["label"] or "").strip()
