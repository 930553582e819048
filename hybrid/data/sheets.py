"""Read a table file, a hub data set or a recipe's `prepare`, every cell as the text that stands there."""

import csv
import errno
import io
import tempfile
import types
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from hybrid.artifacts import cache_dir, hub_refusal
from hybrid.errors import ConfigError, DataError, StorageError
from hybrid.types import Part

Fetch = Callable[[str], Path]
Cells = Mapping[str, str | None]
_NUMBER_STARTS = b"-0123456789"


class Sheet(msgspec.Struct, frozen=True):
    """A file as columns and records; a record knows its line (or row) number, from 1."""

    ref: str
    stem: str
    columns: Sequence[str]
    records: list[tuple[int, Cells]]
    has_lines: bool = True

    def where(self, number: int) -> str:
        """Return how a message calls record `number`."""
        return f"{self.ref}:{number}" if self.has_lines else f"{self.ref}, row {number}"


def read_sheet(ref: str, folder: Path, part: Part, wanted: Sequence[str]) -> Sheet:
    """Return the file `ref` beside the recipe, or the hub data set `hf:owner/name[:split]`.

    csv, tsv and jsonl are read here and not through `datasets`, which types what it reads (a jsonl
    "01" comes back as 1, a column of dates as timestamps), pads short lines and knows no line numbers.

    Args:
        part: the key of [data] that names it, for messages.
        wanted: the columns to read where reading the others would cost; absent ones are no error here.

    Raises:
        DataError: there is no such file or data set, or it is malformed.
        StorageError: no room for a copy.
    """
    if ref.startswith("hf:"):
        return _read_hub(ref, wanted)
    path = folder / Path(ref).expanduser()
    if not path.is_file():
        raise DataError(f"{path}: no such file (data.{part} = {ref!r}); correct the path, which starts at the recipe")
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv"):
        return _read_delimited(path, ref, "," if suffix == ".csv" else "\t")
    if suffix in (".jsonl", ".ndjson"):
        return _read_jsonl(path, ref, wanted)
    if suffix == ".parquet":
        return _read_parquet(path, ref, wanted)
    raise DataError(f"{ref}: a {suffix or 'nameless'} file; want .csv, .tsv, .jsonl or .parquet: convert or rename it")


def _utf8(path: Path, ref: str) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{ref}:{line}: byte {error.start} of the file (0x{content[error.start]:02x}) is not UTF-8; "
            "save the file as UTF-8"
        ) from error


def _read_delimited(path: Path, ref: str, delimiter: str) -> Sheet:
    """Return a csv or tsv file with a header, quoted as RFC 4180 has it; blank lines are passed over."""
    text = _utf8(path, ref)
    # Text of any length is fine: the default limit would refuse long documents.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    header: list[str] = []
    records: list[tuple[int, Cells]] = []
    start = 1
    try:
        for cells in reader:
            if cells and not header:
                header = _header(cells, ref)
            elif cells and len(cells) != len(header):
                raise DataError(
                    f"{ref}:{start}: {len(cells)} cells came, {len(header)} were wanted as in the header; quote "
                    "cells that hold the delimiter"
                )
            elif cells:
                records.append((start, dict(zip(header, cells, strict=True))))
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f'{ref}:{start}: not a well-formed line ({error}); wrap a cell that holds a quote in quotes and write "" '
            "for each quote in it"
        ) from error
    return Sheet(ref, path.stem, header, records)


def _header(cells: Sequence[str], ref: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{ref}:1: column {twice[0]!r} stands there twice; give each column a name of its own")
    return names


def _read_jsonl(path: Path, ref: str, wanted: Sequence[str]) -> Sheet:
    """Return one JSON object a line; a number or a truth value keeps the spelling it has in the file."""
    decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
    columns: dict[str, None] = {}
    records: list[tuple[int, Cells]] = []
    for number, line in enumerate(_utf8(path, ref).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            values = decode(line)
        except msgspec.DecodeError as error:
            raise DataError(
                f"{ref}:{number}: not a JSON object ({error}); want one object a line, as in "
                '{"text": "...", "label": "..."}'
            ) from error
        columns.update(dict.fromkeys(values))
        where = f"{ref}:{number}"
        records.append((number, {key: _json_text(values[key], where, key) for key in wanted if key in values}))
    return Sheet(ref, path.stem, tuple(columns), records)


def _json_text(raw: msgspec.Raw, where: str, column: str) -> str | None:
    spelled = bytes(raw)
    if spelled[:1] in _NUMBER_STARTS:
        return spelled.decode()
    return _as_text(msgspec.json.decode(spelled), where, column)


def _read_parquet(path: Path, ref: str, wanted: Sequence[str]) -> Sheet:
    datasets = _quiet_datasets()
    root = cache_dir()
    try:
        root.mkdir(parents=True, exist_ok=True)
        # A private cache that ends with the reading: `datasets` would keep a copy of the file in the home folder.
        with tempfile.TemporaryDirectory(dir=root) as scratch:
            table = datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=scratch)
            return _sheet_of(table, ref, path.stem, wanted)
    except OSError as error:
        raise StorageError(
            f"{root}: cannot hold a copy of {ref} ({error.strerror or error}); free some space or set HYBRID_CACHE"
        ) from error
    except (datasets.exceptions.DatasetGenerationError, ValueError) as error:
        raise DataError(
            f"{ref}: cannot be read as parquet ({_first_line(error.__cause__ or error)}); write it anew"
        ) from error


def _read_hub(ref: str, wanted: Sequence[str]) -> Sheet:
    from huggingface_hub.errors import OfflineModeIsEnabled

    repo, _, split = ref.removeprefix("hf:").partition(":")
    # Asked first because `datasets` would try for half a minute, and say so on the terminal.
    refusal = hub_refusal(repo, "dataset")
    if refusal is not None and not isinstance(refusal, OfflineModeIsEnabled):
        raise _hub_error(ref, refusal)
    datasets = _quiet_datasets()
    try:
        table = datasets.load_dataset(repo, split=split or "train", cache_dir=str(cache_dir() / "datasets"))
    except Exception as error:
        # As with `hub_refusal`, no narrower type covers what the client raises.
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise StorageError(f"{ref}: no space left for the download; free some or move HF_HOME") from error
        raise _hub_error(ref, error) from error
    return _sheet_of(table, ref, f"{repo.rpartition('/')[2]}-{split or 'train'}", wanted)


def _hub_error(ref: str, error: Exception) -> DataError:
    return DataError(
        f"{ref}: could not be had from the Hugging Face hub ({_first_line(error)}); check the name, the split and the "
        "network, set HF_HUB_OFFLINE=1 if it was fetched before, or name a .csv or .jsonl file instead"
    )


def _quiet_datasets() -> Any:
    # Imported when used: it takes over a second, and a csv needs none of it.
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    return datasets


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _sheet_of(table: Any, ref: str, stem: str, wanted: Sequence[str]) -> Sheet:
    """Return the wanted columns of a `datasets.Dataset`; a class number becomes the name of its class."""
    present = [name for name in dict.fromkeys(wanted) if name in table.column_names]
    columns = []
    for name in present:
        names = getattr(table.features[name], "names", None)
        values = table[name][:]
        if names:
            # -1 is the hub's mark for a row without a label.
            values = [None if value is None or value < 0 else names[value] for value in values]
        columns.append([_as_text(value, f"{ref}, row {row}", name) for row, value in enumerate(values, start=1)])
    rows = enumerate(zip(*columns, strict=True), start=1)
    records: list[tuple[int, Cells]] = [(row, dict(zip(present, cells, strict=True))) for row, cells in rows]
    return Sheet(ref, stem, tuple(table.column_names), records, has_lines=False)


def _as_text(value: object, where: str, column: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return None if value != value else str(value)
    raise DataError(f"{where}: {column} holds a {type(value).__name__}; want text, a number or a truth value")


def prepared_sheet(path: Path, ref: str, seed: int, fetch: Fetch) -> Sheet:
    """Return the rows of the `prepare(fetch, seed)` in a Python file."""
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such file (data.prepare = {ref!r}); correct the path, which starts at the recipe"
        )
    # Run from its text and not imported: an import would leave bytecode in the recipe's folder.
    module = types.ModuleType(f"hybrid_prepare_{path.stem}")
    module.__file__ = str(path)
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
        prepare = module.prepare
    except (SyntaxError, AttributeError) as error:
        raise ConfigError(f"{path}: no usable prepare(fetch, seed) in it ({_first_line(error)}); define one") from error
    columns: dict[str, None] = {}
    records: list[tuple[int, Cells]] = []
    for number, row in enumerate(prepare(fetch, seed), start=1):
        if not isinstance(row, Mapping):
            raise DataError(f"{ref}, row {number}: prepare gave a {type(row).__name__}; want a dict of columns")
        record = {name: _as_text(value, f"{ref}, row {number}", name) for name, value in row.items()}
        columns.update(dict.fromkeys(record))
        records.append((number, record))
    return Sheet(ref, path.stem, tuple(columns), records, has_lines=False)
