"""parquet, through pyarrow: read in record batches, written with its schema and typed added columns."""

import io
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from hybrid.errors import ConfigError, DataError
from hybrid.files.formats.records import (
    BATCH_ROWS,
    AddedColumns,
    Batch,
    Cell,
    ColumnKind,
    NotText,
    Record,
    Table,
    Value,
    check_header,
    class_name,
    location_of,
    value_of,
)
from hybrid.files.places import is_local
from hybrid.files.table import whole_file

ROW_GROUP_ROWS = 1 << 16
ROW_GROUP_BYTES = 64 << 20
"""A row group of the output ends where it reaches one of the two."""


class Parquet:
    """A parquet file; needs pyarrow."""

    suffixes = (".parquet",)
    can_write = True

    @contextmanager
    def open(
        self,
        path: Path,
        *,
        name: str,
        columns: Collection[str],
        batch_rows: int = BATCH_ROWS,
        with_originals: bool = False,
    ) -> Iterator[Table]:
        """Open a file; the number of a class becomes its name where the `datasets` library has noted the names."""
        arrow, parquet = _pyarrow()
        opened = ExitStack()
        try:
            source = path if is_local(path) else opened.enter_context(path.open("rb"))
            file = opened.enter_context(parquet.ParquetFile(source, pre_buffer=False))
        except (OSError, arrow.ArrowException) as error:
            opened.close()
            raise _unreadable(name, error) from error
        with opened:
            schema = file.schema_arrow
            check_header(schema.names, name)
            present = [column for column in dict.fromkeys(columns) if column in schema.names]
            reads = _Reads(name, tuple(schema.names), present, _class_names(schema))
            yield Table(
                name=name,
                header=tuple(schema.names),
                batches=reads.batches(file, batch_rows, with_originals=with_originals),
                read_from=lambda start: reads.batches(file, batch_rows, start.number, with_originals=with_originals),
                has_lines=False,
                other_types={c: str(schema.field(c).type) for c in present if not _is_text(schema.field(c).type)},
                layout=schema,
            )

    def render(
        self,
        table: Table,
        batch: Batch,
        cells: Sequence[Sequence[Cell]],
        added: AddedColumns,
        *,
        first: bool,  # noqa: ARG002 (csv has a header to write)
    ) -> bytes:
        """Return a parquet file of the batch's rows."""
        arrow, parquet = _pyarrow()
        rows = arrow.Table.from_batches([batch.originals], schema=table.layout)
        for at, (name, kind) in enumerate(added.kinds.items()):
            field = arrow.field(name, _arrow_type(kind, added.labels))
            rows = rows.append_column(field, arrow.array([row_cells[at] for row_cells in cells], type=field.type))
        page = io.BytesIO()
        parquet.write_table(rows, page)
        return page.getvalue()

    def join(self, parts: Sequence[Path], target: Path) -> None:
        """Write the parts as one file of larger row groups."""
        arrow, parquet = _pyarrow()
        with parts[0].open("rb") as first:
            schema = parquet.read_schema(first)
        with whole_file(target) as file, parquet.ParquetWriter(file, schema) as writer:
            waiting: list[Any] = []
            for part in parts:
                with part.open("rb") as content:
                    waiting.append(parquet.read_table(content))
                n_rows, n_bytes = sum(map(len, waiting)), sum(table.nbytes for table in waiting)
                if n_rows >= ROW_GROUP_ROWS or n_bytes >= ROW_GROUP_BYTES or part is parts[-1]:
                    writer.write_table(arrow.concat_tables(waiting), row_group_size=max(n_rows, 1))
                    waiting = []


class _Reads:
    """The record batches of one file as records."""

    def __init__(
        self, name: str, header: tuple[str, ...], columns: Sequence[str], class_names: Mapping[str, Sequence[str]]
    ) -> None:
        self._name = name
        self._header = header
        self._columns = columns
        self._class_names = class_names

    def batches(self, file: Any, batch_rows: int, row: int = 1, *, with_originals: bool) -> Iterator[Batch]:
        """Yield batches of `batch_rows` rows, from row number `row` on; the last one may have fewer.

        Raises:
            DataError: the file is damaged.
        """
        arrow, _ = _pyarrow()
        columns = None if with_originals else self._columns
        try:
            for read in _record_batches(file, batch_rows, row - 1, columns):
                yield Batch(self._records(read, row), read if with_originals else None)
                row += len(read)
        except (OSError, arrow.ArrowException) as error:
            raise _unreadable(self._name, error) from error
        if row == 1:
            yield Batch([], arrow.RecordBatch.from_pylist([], file.schema_arrow))

    def _records(self, read: Any, first: int) -> list[Record]:
        problems: dict[int, str] = {}
        by_column = [self._values(read, first, column, problems) for column in self._columns]
        rows = zip(*by_column, strict=True) if by_column else [()] * len(read)
        return [
            Record(number, self._header, dict(zip(self._columns, values, strict=True)), problems.get(number, ""))
            for number, values in enumerate(rows, start=first)
        ]

    def _values(self, read: Any, first: int, column: str, problems: dict[int, str]) -> list[Value]:
        """Return the values of a column; what cannot be read goes into `problems` by its row."""
        values = read.column(column)
        if not _is_text(values.type):
            return _other_values(values, self._class_names.get(column, ()))
        texts: list[Value] = []
        for number, content in enumerate(_bytes_of(values), start=first):
            try:
                # Arrow does not check that its strings are UTF-8.
                texts.append(None if content is None else content.decode())
            except UnicodeDecodeError as error:
                where = location_of(self._name, number, has_lines=False)
                problems[number] = f"{where}: {column!r} is not UTF-8 at byte {error.start}; save it as UTF-8"
                texts.append(None)
        return texts


def _record_batches(file: Any, batch_rows: int, skipped: int, columns: Sequence[str] | None) -> Iterator[Any]:
    """Yield the rows of a file after the first `skipped`, in record batches of `batch_rows`; the last may have fewer.

    Row groups that are skipped whole are not read.
    """
    arrow, _ = _pyarrow()
    group = 0
    while group < file.num_row_groups and skipped >= (rows := file.metadata.row_group(group).num_rows):
        group, skipped = group + 1, skipped - rows
    groups = range(group, file.num_row_groups)
    waiting: list[Any] = []
    n_waiting = 0
    for read in file.iter_batches(batch_size=batch_rows, row_groups=groups, columns=columns):
        skip = min(skipped, len(read))
        skipped -= skip
        rest = read.slice(skip)
        while len(rest):
            taken = rest.slice(0, batch_rows - n_waiting)
            rest = rest.slice(len(taken))
            waiting.append(taken)
            n_waiting += len(taken)
            if n_waiting == batch_rows:
                yield _as_one(arrow, waiting)
                waiting, n_waiting = [], 0
    if waiting:
        yield _as_one(arrow, waiting)


def _as_one(arrow: Any, batches: Sequence[Any]) -> Any:
    """Return record batches as one."""
    return batches[0] if len(batches) == 1 else arrow.concat_batches(batches)


def _pyarrow() -> tuple[Any, Any]:
    """Import pyarrow.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(
            "parquet: pyarrow is not installed; run `pip install pyarrow`, or convert the file to csv or jsonl"
        ) from error
    return pyarrow, pyarrow.parquet


def _unreadable(name: str, error: Exception) -> DataError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return DataError(f"{name}: cannot be read as parquet ({reason}); name a parquet file, or write it again")


def _is_text(kind: Any) -> bool:
    arrow, _ = _pyarrow()
    values = kind.value_type if arrow.types.is_dictionary(kind) else kind
    return bool(
        arrow.types.is_string(values) or arrow.types.is_large_string(values) or arrow.types.is_string_view(values)
    )


def _bytes_of(column: Any) -> list[bytes | None]:
    arrow, _ = _pyarrow()
    if arrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.cast(arrow.large_binary()).to_pylist()  # type: ignore[no-any-return]


def _other_values(column: Any, class_names: Sequence[str]) -> list[Value]:
    arrow, _ = _pyarrow()
    if arrow.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kinds = arrow.types
    readable = (kinds.is_integer, kinds.is_floating, kinds.is_boolean, kinds.is_null)
    if not any(is_kind(column.type) for is_kind in readable):
        return [None if missing else NotText("", str(column.type)) for missing in column.is_null().to_pylist()]
    if class_names:
        return [class_name(value, class_names) for value in column.to_pylist()]
    return [value_of(value) for value in column.to_pylist()]


def _class_names(schema: Any) -> dict[str, Sequence[str]]:
    """Return the names of classes by column, from the features that the `datasets` library keeps in the schema."""
    noted = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(noted)["info"]["features"] if noted else {}
        return {
            column: feature["names"]
            for column, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, LookupError, TypeError, AttributeError):
        # Metadata of another shape says nothing about classes.
        return {}


def _arrow_type(kind: ColumnKind, labels: Sequence[str]) -> Any:
    arrow, _ = _pyarrow()
    if kind == "probs":
        return arrow.struct([(label, arrow.float64()) for label in labels])
    return {"text": arrow.string(), "number": arrow.float64(), "flag": arrow.bool_()}[kind]
