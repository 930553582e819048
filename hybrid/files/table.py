"""Typed JSONL tables: written whole or not at all, read with line numbers."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

import msgspec

from hybrid.errors import DataError, StorageError

RowType = TypeVar("RowType", bound=msgspec.Struct)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that appears at `path` only if the block ends without an error."""
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _removed_on_error(part), part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise StorageError(
            f"{path}: could not be written ({error.strerror or error}); free some space or choose "
            "another folder with --runs, then run again: what was finished is kept"
        ) from error


@contextmanager
def _removed_on_error(part: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all."""
    with whole_file(path) as file:
        file.write(content)


def write_json(path: Path, value: object) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write_bytes(path, msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2) + b"\n")


def write_rows(path: Path, rows: Iterable[msgspec.Struct]) -> None:
    """Write one JSON object a line, whole or not at all."""
    encode = msgspec.json.Encoder(order="deterministic").encode
    with whole_file(path) as file:
        for row in rows:
            file.write(encode(row) + b"\n")


def read_rows(path: Path, row_type: type[RowType]) -> list[RowType]:
    """Return the rows of a table.

    Raises:
        DataError: a line is not a `row_type`; the message names file and line.
    """
    return list(iterate_rows(path, row_type))


def iterate_rows(path: Path, row_type: type[RowType]) -> Iterator[RowType]:
    """Yield the rows of a table, for those that need not hold all of them.

    Raises:
        DataError: a line is not a `row_type`; the message names file and line.
    """
    decode = msgspec.json.Decoder(row_type).decode
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                row = decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise DataError(f"{path}:{number}: not a {row_type.__name__}: {error}") from error
            yield row
