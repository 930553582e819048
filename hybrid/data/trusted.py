"""Training rows whose label a person vouches for: a share of the gold, an audit sample, what a review brought back."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from hybrid.errors import DataError
from hybrid.types import Example, Gold, Trusted, TrustedSource

REVIEWED = "trusted.jsonl"
"""Beside the runs of a recipe: the answers of a review, read back."""


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
    """Return the trusted training rows, in row order, each once: a review overrules an audit, an audit the gold.

    Args:
        rows: those of all parts; only training rows are returned, for no other may train.
        n_gold: how many of the training rows with gold are declared trusted.
        audit: files of trusted rows.
        reviewed: the file of a review's answers, which need not exist.
        seed: which rows of gold are drawn.

    Raises:
        DataError: fewer training rows have gold than are declared trusted, or a file is not what it should be.
    """
    found = {one.id: one for one in draw_trusted(rows, gold, n_gold, seed)}
    for path in audit:
        found |= {one.id: one for one in read_trusted(path, rows, labels)}
    if reviewed.exists():
        found |= {one.id: one for one in read_trusted(reviewed, rows, labels, source="review")}
    return [found[row.id] for row in rows if row.id in found]


def draw_trusted(rows: Sequence[Example], gold: Sequence[Gold], n: int, seed: int) -> list[Trusted]:
    """Return `n` training rows with their gold labels, drawn evenly over the given labels' shares.

    Raises:
        DataError: fewer training rows have gold.
    """
    label = {one.id: one.label for one in gold}
    known = [row for row in rows if row.part == "train" and row.id in label]
    if n > len(known):
        raise DataError(
            f"data.trusted = {n}: {len(known)} training rows have gold; lower it, or name a file of trusted rows in "
            "data.audit"
        )
    # Rows in the order of their given labels, then every (len / n)th of them: each label gets its share.
    order = np.random.default_rng(seed).permutation(len(known))
    by_label = sorted((known[i] for i in order), key=lambda row: row.label)
    taken = [by_label[int((i + 0.5) * len(known) / n)] for i in range(n)]
    return [Trusted(id=row.id, label=label[row.id], source="gold") for row in taken]


def read_trusted(
    path: Path, rows: Sequence[Example], labels: Sequence[str], source: TrustedSource = "audit"
) -> list[Trusted]:
    """Return the training rows that a csv or jsonl file with columns `id` and `label` vouches for, a row once.

    Rows of the other parts are left out: they judge, and may not train. The file's last word on a row counts.

    Raises:
        DataError: a line is not a row, an id stands in no row, or a label is not one of the recipe's.
    """
    part = {row.id: row.part for row in rows}
    found: dict[str, Trusted] = {}
    for where, row_id, label in _lines(path):
        if row_id not in part:
            raise DataError(f"{where}: id {row_id!r} is no row of the data; correct it or remove the line")
        if label not in labels:
            raise DataError(
                f"{where}: label {label!r} is not one of the recipe's ({', '.join(labels)}); write one of those there"
            )
        if part[row_id] == "train":
            found[row_id] = Trusted(id=row_id, label=label, source=source)
    return list(found.values())


class _Line(msgspec.Struct):
    id: str
    label: str


def _lines(path: Path) -> Iterator[tuple[str, str, str]]:
    """Return place, id and label of each line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as UTF-8 ({error}); name a csv or jsonl file of id,label") from error
    lines = text.splitlines()
    return _jsonl(path, lines) if path.suffix == ".jsonl" else _csv(path, lines)


def _jsonl(path: Path, lines: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = msgspec.json.decode(line, type=_Line)
        except msgspec.DecodeError as error:
            raise DataError(f"{path}:{number}: not a trusted row ({error}); want id and label") from error
        yield f"{path}:{number}", row.id.strip(), row.label.strip()


def _csv(path: Path, lines: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    reader = csv.DictReader(line + "\n" for line in lines)
    missing = [name for name in ("id", "label") if name not in (reader.fieldnames or ())]
    if missing:
        raise DataError(f"{path}: no column {missing[0]!r} in its first line; want id and label")
    for cells in reader:
        yield f"{path}:{reader.line_num}", (cells["id"] or "").strip(), (cells["label"] or "").strip()
