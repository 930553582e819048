"""Trusted rows: training rows with a label that a person has checked, from the gold, an audit file or a review."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np

from hybrid.config import NO_VOTE
from hybrid.data.annotations import is_no_vote
from hybrid.data.row_ids import RowIndex, is_line_id, text_key
from hybrid.errors import DataError
from hybrid.files.formats import FORMATS, is_table
from hybrid.files.hashing import sha256_of
from hybrid.files.sheet import read_sheet
from hybrid.label_sets import label_named
from hybrid.types import Example, Gold, Row, Trusted, TrustedSource

REVIEWED = "trusted.jsonl"
"""The file with the answers of a review, beside the runs of a recipe."""
COLUMNS = ("id", "label", "text", "text_key", "drawn")


class Reviewed(Row, frozen=True, kw_only=True):
    """The answers of reviews about the rows of a run."""

    trusted: list[Trusted]
    n_gone: int = 0
    """Answers whose text is no longer among the rows."""
    n_judging: int = 0
    """Answers about rows that calibrate or test now, which may not train."""


class _Record(Row, frozen=True, kw_only=True):
    """A line of a file of trusted rows."""

    where: str
    id: str
    label: str
    text: str
    key: str
    """Identifies the text; empty if the line has neither a text nor a key."""
    drawn: bool
    """Whether the row was drawn at random for a review."""


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
    drawn = set(by_id)
    for path in audit:
        by_id |= {row.id: row for row in read_audit(path, rows, labels)}
    by_id |= {row.id: row for row in read_reviewed(reviewed, rows, labels).trusted}
    drawn |= _sampled(rows, by_id)
    return [msgspec.structs.replace(by_id[row.id], drawn=row.id in drawn) for row in rows if row.id in by_id]


def sample_order(rows: Sequence[Example]) -> list[Example]:
    """Return the training rows in a random order that depends on each row's id alone, so that a sample can grow."""
    train = [row for row in rows if row.part == "train"]
    return sorted(train, key=lambda row: sha256_of(["review sample", row.id]))


def _sampled(rows: Sequence[Example], trusted: Mapping[str, Trusted]) -> set[str]:
    """Return the ids of the trusted rows that are a random sample: all before the last one that a review drew.

    Gold is drawn in another order, and says nothing about the rows that a review picked.
    """
    reviewed = {row.id for row in trusted.values() if row.drawn and row.source == "review"}
    order = [row.id for row in sample_order(rows)] if reviewed else []
    last = max((i for i, row_id in enumerate(order) if row_id in reviewed), default=-1)
    return {row_id for row_id in order[: last + 1] if row_id in trusted}


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
    return [_trusted(row, label[row.id], "gold", drawn=True) for row in drawn]


def read_audit(path: Path, rows: Sequence[Example], labels: Sequence[str]) -> list[Trusted]:
    """Read the trusted rows in a file with the columns `label` and `id`, `text` or both, each row once.

    A line with a text is about the row with this text; its id tells rows with the same text apart. A line without a
    label, or with a value that means no vote, is a row that nobody has answered yet. Rows of the other parts are left out: they calibrate and test, and may
    not train. The last line of a row counts.

    Raises:
        DataError: a line cannot be read, no row has its id or its text, or a label is not one of the recipe's.
    """
    index = RowIndex(rows)
    by_id: dict[str, Trusted] = {}
    for record in _records(path):
        if is_no_vote(record.label, NO_VOTE, labels):
            continue
        matches = index.find_text(record.id, record.text)
        if not matches:
            raise DataError(_no_row(record, index))
        by_id |= _of_train(matches, _label(record, labels), "audit", drawn=False)
    return list(by_id.values())


def read_reviewed(path: Path, rows: Sequence[Example], labels: Sequence[str]) -> Reviewed:
    """Read the answers that `hybrid review read` keeps; there are none if there is no file.

    An answer follows its text. One whose text is no longer among the rows is counted and left out.

    Raises:
        DataError: a line cannot be read, a label is not one of the recipe's, or the file names rows by their line, as
            an earlier version did.
    """
    if not path.exists():
        return Reviewed(trusted=[])
    index = RowIndex(rows)
    by_id: dict[str, Trusted] = {}
    n_gone = n_judging = 0
    for record in _records(path):
        if not record.key and record.id not in index and is_line_id(record.id) and index.by_content:
            raise DataError(
                f"{record.where}: id {record.id!r} names a row by its line, as an earlier version did, and lines move; "
                "move the file away, and read the answered sheets again with: hybrid review read"
            )
        matches = index.find(record.id, record.key)
        n_gone += not matches
        n_judging += bool(matches) and all(row.part != "train" for row in matches)
        if matches:
            by_id |= _of_train(matches, _label(record, labels), "review", drawn=record.drawn)
    return Reviewed(trusted=list(by_id.values()), n_gone=n_gone, n_judging=n_judging)


def _of_train(rows: Sequence[Example], label: str, source: TrustedSource, *, drawn: bool) -> dict[str, Trusted]:
    return {row.id: _trusted(row, label, source, drawn=drawn) for row in rows if row.part == "train"}


def _trusted(row: Example, label: str, source: TrustedSource, *, drawn: bool) -> Trusted:
    return Trusted(id=row.id, label=label, source=source, text_key=text_key(row.text), drawn=drawn)


def _label(record: _Record, labels: Sequence[str]) -> str:
    label = label_named(record.label, labels)
    if label is None:
        raise DataError(
            f"{record.where}: label {record.label!r} is not one of the recipe's ({', '.join(labels)}); write one of "
            "those there"
        )
    return label


def _no_row(record: _Record, index: RowIndex) -> str:
    """Say why a line names no row."""
    if record.key:
        mismatch = f", and the row with the id {record.id!r} has another" if record.id in index else ""
        return f"{record.where}: no row of the data has this text{mismatch}; correct the line or remove it"
    if is_line_id(record.id) and index.by_content:
        return (
            f"{record.where}: id {record.id!r} names a row by its line, and lines move; add a column text with the text "
            "of each row, or set data.id to a column of ids"
        )
    return f"{record.where}: id {record.id!r} is no row of the data; correct it or remove the line"


def _records(path: Path) -> Iterator[_Record]:
    """Yield the lines of a file; one whose name has no known ending is read as csv."""
    sheet = read_sheet(path, COLUMNS, file_format=None if is_table(path) else FORMATS["csv"])
    if sheet.has_header:
        if "label" not in sheet.columns:
            raise DataError(f"{path}: no column 'label' in its first line; expected label and id or text")
        if "id" not in sheet.columns and "text" not in sheet.columns:
            raise DataError(f"{path}: no column 'id' and no column 'text' in its first line; expected one of them")
    for number, cells in sheet.records:
        where = sheet.where(number)
        row_id, label, text = ((cells.get(column) or "").strip() for column in COLUMNS[:3])
        if "label" not in cells:
            raise DataError(f"{where}: no 'label'; expected label and id or text")
        if not row_id and not text:
            raise DataError(f"{where}: neither an id nor a text; expected one of them")
        drawn = cells.get("drawn") == "true"
        key = cells.get("text_key") or (text_key(text) if text else "")
        yield _Record(where=where, id=row_id, label=label, text=text, key=key, drawn=drawn)
