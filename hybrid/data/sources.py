"""Load the rows that a recipe names, and refuse rows that cannot be right."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import get_args

import msgspec

from hybrid.config import DataConfig
from hybrid.data.annotations import AnnotatorColumns, majority
from hybrid.data.label_checks import check_classes, check_trained
from hybrid.data.label_spellings import LabelCounts, is_blank, other_spellings, refuse_alike
from hybrid.data.row_ids import ContentIds
from hybrid.data.sheets import Fetch, prepared_sheet, read_data
from hybrid.data.source_rows import Dataset, SourceRow, labels_in
from hybrid.errors import ConfigError, DataError
from hybrid.files.sheet import Cells, Sheet
from hybrid.label_sets import join_labels
from hybrid.types import LABEL_SEPARATOR, AlikeLabels, Part, Task


def load_data(
    config: DataConfig,
    *,
    folder: Path,
    seed: int,
    fetch: Fetch,
    task: Task = "single_label",
    labels: Sequence[str] = (),
) -> Dataset:
    """Load the rows that a recipe's [data] section names.

    Args:
        folder: the recipe's; relative files start there.
        seed: passed to the recipe's own `prepare`.
        fetch: passed to `prepare` too; returns the folder of a pinned artefact by its name.
        task: whether a cell holds one label or several.
        labels: those that the recipe lists, whose spelling goes before others, and which are votes whatever they are called;
            empty where it lists none.

    Raises:
        DataError: a file, a row or a label is wrong; the message is one sentence that says which.
        ConfigError: the section contradicts itself, or `prepare` is not a Python file.
        StorageError: no room for a hub data set.
    """
    _check_roles(config)
    sheets = _sheets(config, folder, seed, fetch)
    for _, sheet in sheets:
        if not sheet.records:
            raise DataError(f"{sheet.name}: no rows in it; expected one row a text, under the names of the columns")
    if config.gold and not any(config.gold in sheet.columns for _, sheet in sheets):
        raise _missing_column(sheets[0][1], config.gold, "gold")
    rows: list[SourceRow] = []
    ids, annotators = ContentIds(), AnnotatorColumns(config.annotators, config.no_vote, labels)
    for part, sheet in sheets:
        rows += _rows(sheet, config, ids, annotators, part, task)
    _check_ids(rows)
    _check_parts(rows, config)
    notes = [f"{sheet.name}: {sheet.note}" for _, sheet in sheets if sheet.note]
    kinds = {
        kind for _, sheet in sheets for column in _label_columns(config) for kind in sheet.value_kinds.get(column, ())
    }
    read = Dataset(
        rows,
        task,
        notes=notes,
        no_votes=annotators.no_votes,
        rows_without_vote=annotators.rows_without_vote,
    )
    dataset = _one_spelling(read, labels, value_kinds=kinds, alike=config.alike_labels)
    if config.alike_labels == "refuse":
        refuse_alike(_count_labels(dataset), labels, sheets[0][1].name)
    check_trained(dataset)
    check_classes(dataset, sheets[0][1].name)
    return dataset


def _check_roles(config: DataConfig) -> None:
    """Raise `ConfigError` where a purpose has no column, or one column has two."""
    if not config.text:
        raise ConfigError("data.text is empty; name the column of the texts (--text)")
    if not config.label and not config.annotators:
        raise ConfigError(
            "data.label is empty; name the column of the given labels (--label), or those of single annotators "
            "(--annotators)"
        )
    if not all(config.annotators):
        raise ConfigError("data.annotators has an empty name; name a column of the file for each annotator")
    labels = [("annotators", name) for name in config.annotators] or [("label", config.label)]
    purpose: dict[str, str] = {}
    for key, column in [("text", config.text), *labels, ("gold", config.gold)]:
        if column and column in purpose:
            raise ConfigError(
                f"data.{purpose[column]} and data.{key} are both {column!r}; expected a column of its own for each"
            )
        purpose[column] = key


def _sheets(config: DataConfig, folder: Path, seed: int, fetch: Fetch) -> list[tuple[Part | None, Sheet]]:
    if config.prepare:
        return [(None, prepared_sheet(folder / config.prepare, config.prepare, seed, fetch))]
    refs: dict[Part, str] = {"train": config.train, "calibration": config.calibration, "test": config.test}
    refs = {part: ref for part, ref in refs.items() if ref}
    if config.split and len(refs) > 1:
        raise ConfigError(f"data.split = {config.split!r}: files are given for the parts too; set one of the two")
    if len(set(refs.values())) < len(refs):
        raise ConfigError(
            f"[data]: the same file is given for two parts ({', '.join(refs.values())}); name one file for each"
        )
    named = (config.text, config.label, config.gold, config.id, config.split, *config.annotators)
    columns = [column for column in named if column]
    sheets = {part: read_data(ref, folder, f"data.{part}", columns) for part, ref in refs.items()}
    return [(part if len(refs) > 1 else None, sheet) for part, sheet in sheets.items()]


def _label_columns(config: DataConfig) -> list[str]:
    return [column for column in (*(config.annotators or (config.label,)), config.gold) if column]


def _missing_column(sheet: Sheet, column: str, key: str) -> DataError:
    columns = [name for name in sheet.columns if name]
    hint = "name one of those in [data]"
    if len(columns) == 1 and sheet.has_header:
        hint += "; or, if its cells are separated by another character such as ^, make sep=^ the first line of the file"
    return DataError(
        f"{sheet.name}: no column {column!r} (data.{key}); it has: {', '.join(columns) or 'no named column'}; {hint}"
    )


def _rows(
    sheet: Sheet,
    config: DataConfig,
    ids: ContentIds,
    annotators: AnnotatorColumns,
    part: Part | None,
    task: Task,
) -> Iterator[SourceRow]:
    _check_columns(sheet, config)
    for number, cells in sheet.records:
        where = sheet.where(number)
        text = cells.get(config.text) or ""
        if not text.strip():
            raise DataError(f"{where}: {config.text} is empty; write a text there or remove the row")
        annotations = annotators.votes_of(cells)
        label = majority(annotations) if config.annotators else _cell(cells, config.label)
        gold = _cell(cells, config.gold)
        if task == "multi_label":
            label = _joined(label or "", config, where) if config.label in sheet.columns else None
            gold = None if gold is None else _joined(gold, config, where)
        if label is None and gold is None and config.annotators:
            annotators.rows_without_vote += 1
            continue
        if label is None and gold is None:
            raise DataError(
                f"{where}: {config.label} is empty and there is no gold; write a label there or remove the row"
            )
        row_id = _cell(cells, config.id) if config.id else ids.next_id(text)
        if row_id is None:
            raise DataError(
                f"{where}: {config.id} is empty; expected an id in every row: fill it in, or leave out data.id"
            )
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
    required = {"text": [config.text], "id": [config.id], "split": [config.split]}
    # A file of trusted rows, such as a ready test set, may have gold and nothing else.
    if not config.gold or config.gold not in sheet.columns:
        required |= {"annotators": list(config.annotators)} if config.annotators else {"label": [config.label]}
    for key, columns in required.items():
        for column in columns:
            if column and column not in sheet.columns:
                raise _missing_column(sheet, column, key)


def _cell(cells: Cells, column: str) -> str | None:
    """Return a label or an id without the white space around it; None if a reader sees nothing, or no column is named."""
    cell = (cells.get(column) or "").strip() if column else ""
    return None if is_blank(cell) else cell


def _joined(cell: str, config: DataConfig, where: str) -> str:
    """Return the canonical join of the labels in a cell; an empty cell has no label."""
    labels = [label for part in cell.split(config.separator) if (label := part.strip())]
    for label in labels:
        if LABEL_SEPARATOR in label:
            raise DataError(
                f"{where}: label {label!r} has {LABEL_SEPARATOR!r} in it, which separates the labels of a row in the tables "
                "of a run; rename it"
            )
    return join_labels(labels)


def _one_spelling(
    dataset: Dataset, labels: Sequence[str], *, value_kinds: Collection[str], alike: AlikeLabels
) -> Dataset:
    """Give each label one spelling (`hybrid.data.label_spellings`)."""
    spellings = other_spellings(_count_labels(dataset), labels, value_kinds=value_kinds, alike=alike)
    if not spellings:
        return dataset
    label_of = {spelling.spelling: spelling.label for spelling in spellings}

    def respelled(cell: str) -> str:
        names = [label_of.get(label, label) for label in labels_in(cell, dataset.task)]
        return join_labels(names) if dataset.task == "multi_label" else names[0]

    rows = []
    for row in dataset.rows:
        annotations = {name: respelled(label) for name, label in row.annotations.items()}
        label = majority(annotations) if annotations else None if row.label is None else respelled(row.label)
        gold = None if row.gold is None else respelled(row.gold)
        rows.append(msgspec.structs.replace(row, label=label, gold=gold, annotations=annotations))
    return msgspec.structs.replace(dataset, rows=rows, spellings=spellings)


def _count_labels(dataset: Dataset) -> LabelCounts:
    given: Counter[str] = Counter()
    every: Counter[str] = Counter()
    for row in dataset.rows:
        for cell in (row.label, row.gold, *row.annotations.values()):
            every.update(labels_in(cell, dataset.task) if cell is not None else ())
        if row.part in (None, "train") and row.label is not None:
            given.update(labels_in(row.label, dataset.task))
    return LabelCounts(given, every)


def _part(value: str | None, where: str, column: str) -> Part:
    for part in get_args(Part):
        if value == part:
            return part  # type: ignore[no-any-return]
    raise DataError(f"{where}: {column} = {value or ''!r}; expected train, calibration or test")


def _check_ids(rows: Sequence[SourceRow]) -> None:
    first: dict[str, str] = {}
    for row in rows:
        if row.id in first:
            raise DataError(f"{row.where}: id {row.id!r} is used at {first[row.id]} already; give every row its own")
        first[row.id] = row.where


def _check_parts(rows: Sequence[SourceRow], config: DataConfig) -> None:
    parts = {row.part for row in rows}
    for part in ("train", "test"):
        if None not in parts and part not in parts:
            which = f"data.split = {config.split!r}" if config.split else "the files of [data]"
            raise DataError(
                f"{which}: no row is for {part}; expected train and test rows (calibration rows can be drawn)"
            )
