"""The rows that a Python program hands over, as columns of plain values: from DataFrames, data sets, lists and dicts."""

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from hybrid.errors import DataError

Cell = str | int | float | bool | None
Column = str | Iterable[Any]
"""The name of a column of the data, or its values, one a row."""
NO_VALUE = ("NAType", "NaTType")
"""The types of pandas' marks of a missing value."""


class GivenRows(msgspec.Struct, frozen=True, kw_only=True):
    """Rows in memory, column by column."""

    columns: dict[str, list[Cell]]
    """The columns that a purpose is named for, all of one length."""
    names: dict[str, str]
    """The name of each purpose's column (`text`, `label`, `gold`, `id`, `split`); a purpose without one is left out."""
    annotators: tuple[str, ...] = ()
    """The columns of single annotators."""

    def jsonl(self) -> bytes:
        """The rows as lines of JSON; the same rows give the same bytes."""
        encode = msgspec.json.Encoder().encode
        cells = zip(*self.columns.values(), strict=True)
        return b"".join(encode(dict(zip(self.columns, row, strict=True))) + b"\n" for row in cells)


def is_rows(data: object) -> bool:
    """Whether the data are rows in memory, and not the name of a file or of a data set on the hub."""
    return not isinstance(data, str) and not hasattr(data, "__fspath__")


def has_column(data: Any, name: str) -> bool:
    """Whether rows in memory have a column."""
    return name in _columns_of(data, "data")


def given_rows(
    data: Any,
    purposes: Mapping[str, Column],
    *,
    annotators: Sequence[str] | Mapping[str, Iterable[Any]] = (),
    separator: str = "",
    what: str = "data",
) -> GivenRows:
    """Read the columns that have a purpose.

    Args:
        data: a DataFrame of pandas or polars, a `datasets.Dataset`, a dict of columns, a list of dicts, or a list of texts.
        purposes: the column by purpose; a column is a name, or its values.
        annotators: names of columns, or values by name.
        separator: joins the labels of a cell that holds several; empty: a cell holds one.
        what: what messages call the data.

    Raises:
        DataError: the data are of another kind, a column is missing or of another length, or a cell cannot be used.
    """
    source = _Source(data, what)
    columns: dict[str, list[Cell]] = {}
    names: dict[str, str] = {}
    for purpose, column in purposes.items():
        name, values = (column, None) if isinstance(column, str) else (purpose, column)
        if not name:
            continue
        names[purpose] = name
        if name in columns:
            raise DataError(
                f"{what}: the column {name!r} is named for two purposes; expected a column of its own for each"
            )
        columns[name] = source.column(
            name, purpose, values, separator=separator if purpose in ("label", "gold") else ""
        )
    for name in annotators:
        values = annotators[name] if isinstance(annotators, Mapping) else None
        columns[name] = source.column(name, "annotators", values)
    _check_texts(columns[names["text"]], source, names["text"])
    return GivenRows(columns=columns, names=names, annotators=tuple(annotators))


class _Source:
    """The user's data, asked for a column at a time."""

    def __init__(self, data: Any, what: str) -> None:
        self.what = what
        self._columns = _columns_of(data, what)
        self._index = _index_of(data)
        self.n_rows: int | None = None

    def where(self, number: int) -> str:
        """What messages call a row, the first being 1: with pandas' own name of it, where that is another."""
        row = f"{self.what}, row {number}"
        return row if self._index is None else f"{row} (index {self._index[number - 1]!r})"

    def column(self, name: str, purpose: str, values: Iterable[Any] | None, *, separator: str = "") -> list[Cell]:
        """The cells of a column of the data, or of `values` that were given in its place."""
        if values is None:
            if name not in self._columns:
                known = ", ".join(map(str, self._columns)) or "none"
                raise DataError(
                    f"{self.what}: no column {name!r} ({purpose}); it has: {known}; name one of those, or give the values"
                )
            values = self._columns[name]
        cells = list(values)
        if self.n_rows is not None and len(cells) != self.n_rows:
            raise DataError(
                f"{self.what}: {purpose} has {len(cells)} values and the column before it {self.n_rows}; expected one a row"
            )
        self.n_rows = len(cells)
        class_names = getattr(getattr(self._columns, "features", {}).get(name), "names", None)
        return [
            _cell(cell, self.where(number), name, class_names, separator) for number, cell in enumerate(cells, start=1)
        ]


class _DatasetColumns:
    """A `datasets.Dataset` as a mapping of columns, each read whole."""

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset
        self.features = dataset.features

    def __contains__(self, name: str) -> bool:
        return name in self._dataset.column_names

    def __iter__(self) -> Any:
        return iter(self._dataset.column_names)

    def __getitem__(self, name: str) -> list[Any]:
        return list(self._dataset[name][:])


def _columns_of(data: Any, what: str) -> Any:
    """The data as a mapping from names to columns."""
    if isinstance(data, Mapping):
        if type(data).__name__ == "DatasetDict":
            raise DataError(f"{what}: a DatasetDict with {', '.join(data)}; expected one of them, as in data['train']")
        return data
    if type(data).__name__ == "LazyFrame":
        raise DataError(f"{what}: a LazyFrame; expected a DataFrame: call .collect() first")
    if _is_of(data, "datasets", "Dataset"):
        return _DatasetColumns(data)
    if _is_of(data, "pandas", "DataFrame") or _is_of(data, "polars", "DataFrame"):
        return {name: data[name].to_list() for name in data.columns}
    rows = list(data) if hasattr(data, "__iter__") and not isinstance(data, bytes) else None
    if rows and all(isinstance(row, str) for row in rows):
        return {"text": rows}
    if rows and all(isinstance(row, Mapping) for row in rows):
        names = dict.fromkeys(name for row in rows for name in row)
        return {name: [row.get(name) for row in rows] for name in names}
    if rows == []:
        raise DataError(f"{what}: no rows in it; expected one a text")
    raise DataError(
        f"{what}: got a {type(data).__name__}; expected a DataFrame, a datasets.Dataset, a dict of columns, a list of dicts, "
        "a list of texts, or the path of a file"
    )


def _is_of(data: object, module: str, name: str) -> bool:
    """Whether a value is of a class of a library; one that is not loaded has made no value."""
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(data, kind)


def _index_of(data: Any) -> Sequence[Any] | None:
    """The index of a pandas DataFrame, where it says more than the number of the row."""
    if not _is_of(data, "pandas", "DataFrame"):
        return None
    index = list(data.index)
    return None if index == list(range(len(index))) else index


def _cell(value: Any, where: str, column: str, class_names: Sequence[str] | None, separator: str) -> Cell:
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a scalar of numpy
        value = value.item()
    if value is None or type(value).__name__ in NO_VALUE or (isinstance(value, float) and math.isnan(value)):
        return None
    if class_names and isinstance(value, int):
        return class_names[value] if 0 <= value < len(class_names) else None
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise DataError(
                f"{where}: the column {column!r} holds half a character (a surrogate); expected Unicode text"
            )
        return str(value)
    if isinstance(value, bool | int | float):
        return value
    if separator and isinstance(value, list | tuple | set | frozenset):
        labels = sorted(map(str, value)) if isinstance(value, set | frozenset) else list(map(str, value))
        return separator.join(labels) or separator
    raise DataError(
        f"{where}: the column {column!r} holds a {type(value).__name__}; expected text, a number or a truth value"
        + ("" if separator else " (several labels a text: task='multi_label')")
    )


def _check_texts(cells: Sequence[Cell], source: _Source, column: str) -> None:
    for number, cell in enumerate(cells, start=1):
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            raise DataError(
                f"{source.where(number)}: the text in the column {column!r} is empty; fill it in or drop the row"
            )
