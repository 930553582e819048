"""parquet, through pyarrow: the schema is kept, and the added columns are typed."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hybrid.errors import ConfigError, DataError
from hybrid.files.table import whole_file
from hybrid.scoring.rows import Cell, Chunk, Columns, Problem

ROW_GROUP_ROWS = 1 << 16
ROW_GROUP_BYTES = 64 << 20
"""A row group of the output ends where it reaches one of the two."""


class Parquet:
    """A parquet file; wants pyarrow."""

    def __init__(self) -> None:
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
        self._arrow: Any = pyarrow
        self._parquet: Any = pyarrow.parquet

    def chunks(self, source: Path, column: str, n_rows: int) -> Iterator[Chunk]:
        """Yield the rows in record batches.

        Raises:
            DataError: no parquet file, or no such column of text.
        """
        try:
            with self._parquet.ParquetFile(source, pre_buffer=False) as file:
                schema = file.schema_arrow
                self._check_schema(source, schema, column)
                number, first = 0, 1
                for batch in file.iter_batches(batch_size=n_rows):
                    texts = self._texts(batch.column(column), source, first, column)
                    yield Chunk(number=number, texts=texts, rows=batch, header=schema)
                    number, first = number + 1, first + len(batch)
                if number == 0:
                    yield Chunk(number=0, texts=[], rows=self._arrow.RecordBatch.from_pylist([], schema), header=schema)
        except (OSError, self._arrow.ArrowException) as error:
            raise DataError(f"{source}: cannot be read as parquet ({error}); name a parquet file") from error

    def render(self, chunk: Chunk, cells: Sequence[Sequence[Cell]], columns: Columns) -> bytes:
        """Return a parquet file of the chunk's rows.

        Raises:
            DataError: the file has one of the added columns already.
        """
        taken = columns.kinds.keys() & set(chunk.header.names)
        if taken:
            raise DataError(f"there is a column {min(taken)!r} already; choose another prefix with --prefix")
        table = self._arrow.Table.from_batches([chunk.rows], schema=chunk.header)
        for place, (name, kind) in enumerate(columns.kinds.items()):
            field = self._arrow.field(name, self._type(kind, columns.labels))
            table = table.append_column(field, self._arrow.array([row[place] for row in cells], type=field.type))
        page = io.BytesIO()
        self._parquet.write_table(table, page)
        return page.getvalue()

    def join(self, parts: Sequence[Path], target: Path) -> None:
        """Write the parts as one file of larger row groups."""
        schema = self._parquet.read_schema(parts[0])
        with whole_file(target) as file, self._parquet.ParquetWriter(file, schema) as writer:
            waiting: list[Any] = []
            for part in parts:
                waiting.append(self._parquet.read_table(part))
                rows, size = sum(map(len, waiting)), sum(table.nbytes for table in waiting)
                if rows >= ROW_GROUP_ROWS or size >= ROW_GROUP_BYTES or part is parts[-1]:
                    writer.write_table(self._arrow.concat_tables(waiting), row_group_size=max(rows, 1))
                    waiting = []

    def _check_schema(self, source: Path, schema: Any, column: str) -> None:
        if column not in schema.names:
            raise DataError(
                f"{source}: no column {column!r}; there are {', '.join(schema.names)}: name one with --text"
            )
        kinds = self._arrow.types
        found = schema.field(column).type
        values = found.value_type if kinds.is_dictionary(found) else found
        if not (kinds.is_string(values) or kinds.is_large_string(values) or kinds.is_string_view(values)):
            raise DataError(f"{source}: column {column!r} holds {found}; want strings: name another with --text")

    def _texts(self, column: Any, source: Path, first: int, name: str) -> list[str | Problem]:
        """Return the texts; bytes first, because arrow does not look whether they are UTF-8."""
        if self._arrow.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        found = column.cast(self._arrow.large_binary()).to_pylist()
        return [_text(value, f"{source}, row {first + i}", name) for i, value in enumerate(found)]

    def _type(self, kind: str, labels: Sequence[str]) -> Any:
        if kind == "probs":
            return self._arrow.struct([(label, self._arrow.float64()) for label in labels])
        return {"text": self._arrow.string(), "number": self._arrow.float64(), "flag": self._arrow.bool_()}[kind]


def _text(value: bytes | None, where: str, name: str) -> str | Problem:
    if value is None:
        return Problem(f"{where}: {name!r} is null; want a text")
    try:
        text = value.decode()
    except UnicodeDecodeError as error:
        return Problem(f"{where}: {name!r} is not UTF-8 at byte {error.start}; save it as UTF-8")
    return text if text.strip() else Problem(f"{where}: {name!r} is empty; want a text")
