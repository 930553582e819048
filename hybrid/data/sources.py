"""Bring the rows of a recipe in and refuse what cannot be right."""

import difflib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import get_args

import msgspec

from hybrid.config import DataConfig
from hybrid.data.sheets import Cells, Fetch, Sheet, prepared_sheet, read_sheet
from hybrid.errors import ConfigError, DataError
from hybrid.label_sets import join_labels, split_labels
from hybrid.types import LABEL_SEPARATOR, Part, Row, Task


class SourceRow(Row, frozen=True, kw_only=True):
    """One row as it came, before it is dealt to a part."""

    id: str
    text: str
    label: str | None = None
    """multi_label: the canonical join of the labels; the empty string is a row that has none."""
    gold: str | None = None
    annotations: dict[str, str] = {}
    """Label by annotator, in column order; who gave none is left out."""
    part: Part | None = None
    """What the data says, by its files or a column; None where it says nothing."""
    where: str = ""
    """File and line, for messages."""


class Dataset(msgspec.Struct, frozen=True):
    """The rows in the order of the files."""

    rows: list[SourceRow]
    task: Task = "single_label"


def load_data(config: DataConfig, *, folder: Path, seed: int, fetch: Fetch, task: Task = "single_label") -> Dataset:
    """Return the rows that a recipe's [data] section names.

    Args:
        folder: the recipe's; relative files start there.
        seed: handed to the recipe's own `prepare`.
        fetch: the same; from the name of a pinned artefact to its folder.
        task: whether a cell holds one label or several.

    Raises:
        DataError: a file, row or label is not what it should be; one sentence says which.
        ConfigError: the section contradicts itself, or `prepare` is not a Python file.
        StorageError: no room for a hub data set.
    """
    sheets = _sheets(config, folder, seed, fetch)
    for _, sheet in sheets:
        if not sheet.records:
            raise DataError(f"{sheet.ref}: no rows in it; want a row a text, under the names of the columns")
    if config.gold and not any(config.gold in sheet.columns for _, sheet in sheets):
        raise _missing_column(sheets[0][1], config.gold, "gold")
    stems = Counter(sheet.stem for _, sheet in sheets)
    rows: list[SourceRow] = []
    for part, sheet in sheets:
        prefix = sheet.stem if stems[sheet.stem] == 1 else f"{part or 'train'}/{sheet.stem}"
        rows += _rows(sheet, config, prefix, part, task)
    _check_ids(rows)
    _check_parts(rows, config)
    dataset = Dataset(rows, task)
    _check_classes(dataset, sheets[0][1].ref)
    return dataset


def labels_of(dataset: Dataset) -> list[str]:
    """Return the sorted classes among given and gold labels."""
    said = (label for row in dataset.rows for label in (row.label, row.gold) if label is not None)
    return sorted({label for cell in said for label in _single(cell, dataset.task)})


def check_labels(dataset: Dataset, labels: Sequence[str]) -> None:
    """Raise `DataError` at the first given, gold or annotator's label that is not in `labels`."""
    known = set(labels)
    for row in dataset.rows:
        said = (cell for cell in (row.label, row.gold, *row.annotations.values()) if cell is not None)
        for label in (label for cell in said for label in _single(cell, dataset.task)):
            if label not in known:
                near = difflib.get_close_matches(label, labels, n=1)
                hint = f"write {near[0]!r} there" if near else "correct the row"
                raise DataError(
                    f"{row.where or row.id}: label {label!r} is not one of the recipe's ({', '.join(labels)}); "
                    f"{hint}, or add it to `labels`"
                )


def _single(cell: str, task: Task) -> tuple[str, ...]:
    return (cell,) if task == "single_label" else split_labels(cell)


def _sheets(config: DataConfig, folder: Path, seed: int, fetch: Fetch) -> list[tuple[Part | None, Sheet]]:
    if config.prepare:
        return [(None, prepared_sheet(folder / config.prepare, config.prepare, seed, fetch))]
    refs: dict[Part, str] = {"train": config.train, "calibration": config.calibration, "test": config.test}
    refs = {part: ref for part, ref in refs.items() if ref}
    if config.split and len(refs) > 1:
        raise ConfigError(f"data.split = {config.split!r}: files are given for the parts too; want one of the two")
    if len(set(refs.values())) < len(refs):
        raise ConfigError(f"[data]: the same file stands for two parts ({', '.join(refs.values())}); want one each")
    wanted = [config.text, config.label, config.gold, config.id, config.split, *config.annotators]
    return [(part if len(refs) > 1 else None, read_sheet(ref, folder, part, wanted)) for part, ref in refs.items()]


def _missing_column(sheet: Sheet, column: str, key: str) -> DataError:
    return DataError(
        f"{sheet.ref}: no column {column!r} (data.{key}); it has: {', '.join(sheet.columns) or 'none'}; "
        f"name one of those in [data]"
    )


def _rows(sheet: Sheet, config: DataConfig, prefix: str, part: Part | None, task: Task) -> Iterator[SourceRow]:
    _check_columns(sheet, config)
    for number, cells in sheet.records:
        where = sheet.where(number)
        text = cells.get(config.text) or ""
        if not text.strip():
            raise DataError(f"{where}: {config.text} is empty; write a text there or remove the row")
        annotations = {name: label for name in config.annotators if (label := _cell(cells, name))}
        label = _majority(annotations) if annotations else None if config.annotators else _cell(cells, config.label)
        gold = _cell(cells, config.gold)
        if task == "multi_label":
            label = _joined(label or "", config, where) if config.label in sheet.columns else None
            gold = None if gold is None else _joined(gold, config, where)
        if label is None and gold is None:
            empty = ", ".join(config.annotators) or config.label
            raise DataError(f"{where}: {empty} is empty and there is no gold; write a label there or remove the row")
        row_id = _cell(cells, config.id) if config.id else f"{prefix}/{number}"
        if row_id is None:
            raise DataError(f"{where}: {config.id} is empty; want an id for every row, or leave out data.id")
        yield SourceRow(
            id=row_id,
            text=text,
            label=label,
            gold=gold,
            annotations=annotations,
            part=_part(_cell(cells, config.split), where, config.split) if config.split else part,
            where=where,
        )


def _check_columns(sheet: Sheet, config: DataConfig) -> None:
    wanted = {"text": [config.text], "id": [config.id], "split": [config.split]}
    # A file of trusted rows, such as a ready test set, may have gold and nothing else.
    if config.gold not in sheet.columns:
        wanted |= {"annotators": list(config.annotators)} if config.annotators else {"label": [config.label]}
    for key, columns in wanted.items():
        for column in columns:
            if column and column not in sheet.columns:
                raise _missing_column(sheet, column, key)


def _cell(cells: Cells, column: str) -> str | None:
    """Return a label or an id without the white space around it, which is never meant; None if empty."""
    return (cells.get(column) or "").strip() or None


def _joined(cell: str, config: DataConfig, where: str) -> str:
    """Return the canonical join of the labels in a cell; an empty cell has none."""
    labels = [label for part in cell.split(config.separator) if (label := part.strip())]
    for label in labels:
        if LABEL_SEPARATOR in label:
            raise DataError(
                f"{where}: label {label!r} has {LABEL_SEPARATOR!r} in it, which parts the labels of a row in the tables of a "
                "run; rename it"
            )
    return join_labels(labels)


def _majority(annotations: Mapping[str, str]) -> str:
    """Return the most frequent label; among tied ones that of the first column."""
    counts = Counter(annotations.values())
    return max(counts, key=counts.__getitem__)


def _part(value: str | None, where: str, column: str) -> Part:
    for part in get_args(Part):
        if value == part:
            return part  # type: ignore[no-any-return]
    raise DataError(f"{where}: {column} = {value or ''!r}; want train, calibration or test")


def _check_ids(rows: Sequence[SourceRow]) -> None:
    first: dict[str, str] = {}
    for row in rows:
        if row.id in first:
            raise DataError(f"{row.where}: id {row.id!r} stands at {first[row.id]} already; give every row its own")
        first[row.id] = row.where


def _check_parts(rows: Sequence[SourceRow], config: DataConfig) -> None:
    parts = {row.part for row in rows}
    for part in ("train", "test"):
        if None not in parts and part not in parts:
            which = f"data.split = {config.split!r}" if config.split else "the files of [data]"
            raise DataError(f"{which}: no row is for {part}; want train and test rows (calibration may be drawn)")


def _check_classes(dataset: Dataset, ref: str) -> None:
    labels = labels_of(dataset)
    if not labels:
        raise DataError(f"{ref}: no row has a label; want two labels or more: check data.label and data.separator")
    if len(labels) < 2:
        raise DataError(f"{ref}: every row is labelled {labels[0]!r}; want two classes or more: check data.label")
    if len(dataset.rows) < 10 * len(labels):
        raise DataError(
            f"{ref}: {len(dataset.rows)} rows for {len(labels)} classes; want ten times as many rows as classes, "
            f"{10 * len(labels)} or more: add rows, or check data.label"
        )
