"""The rows of a recipe as sheets of text: a file beside the recipe, a hub data set, or the recipe's own `prepare`."""

import errno
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hybrid.artifacts import cache_dir
from hybrid.errors import DataError, StorageError
from hybrid.files.formats.records import NotText, Value, class_name, location_of, text_of, value_of
from hybrid.files.python_file import function_in
from hybrid.files.sheet import Cells, Sheet, read_sheet
from hybrid.hub import parse_hub, refusal_of
from hybrid.types import Fetch as Fetch


def read_data(ref: str, folder: Path, key: str, columns: Sequence[str]) -> Sheet:
    """Read the file `ref` beside the recipe, or the hub data set `hf:owner/name[@revision][:split]`.

    Args:
        key: the setting that names it, such as "data.train", for messages.
        columns: the columns to read; it is no error if one is missing.

    Raises:
        DataError: there is no such file or data set, or it is malformed.
        StorageError: there is no room for the copy of a hub data set.
    """
    if ref.startswith("hf:"):
        return _read_hub(ref, columns)
    path = folder / Path(ref).expanduser()
    if not path.is_file():
        raise DataError(f"{path}: no such file ({key} = {ref!r}); correct the path, which starts at the recipe")
    return read_sheet(path, columns, name=ref)


def _read_hub(ref: str, columns: Sequence[str]) -> Sheet:
    from huggingface_hub.errors import OfflineModeIsEnabled

    reference = parse_hub(ref)
    repo, split = reference.repo, reference.rest.removeprefix(":") or "train"
    # Asked first because `datasets` would try for half a minute, and say so on the terminal.
    refusal = refusal_of(repo, "dataset")
    if refusal is not None and not isinstance(refusal, OfflineModeIsEnabled):
        raise _hub_error(ref, refusal)
    datasets = _quiet_datasets()
    try:
        table = datasets.load_dataset(
            repo, split=split, revision=reference.revision or None, cache_dir=str(cache_dir() / "datasets")
        )
    except Exception as error:
        # As with `refusal_of`, no narrower type covers what the client raises.
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise StorageError(f"{ref}: no space left for the download; free some or move HF_HOME") from error
        raise _hub_error(ref, error) from error
    return _sheet_of(table, ref, f"{repo.rpartition('/')[2]}-{split}", columns)


def _hub_error(ref: str, error: Exception) -> DataError:
    return DataError(
        f"{ref}: could not be loaded from the Hugging Face hub ({_first_line(error)}); check the name, the split and the "
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


def _sheet_of(table: Any, ref: str, stem: str, columns: Sequence[str]) -> Sheet:
    """Return the requested columns of a `datasets.Dataset`; the number of a class becomes its name."""
    present = [name for name in dict.fromkeys(columns) if name in table.column_names]
    by_column: list[list[str | None]] = []
    value_kinds: dict[str, Collection[str]] = {}
    for name in present:
        class_names = getattr(table.features[name], "names", None)
        values: list[Value] = [
            class_name(value, class_names) if class_names else value_of(value) for value in table[name][:]
        ]
        value_kinds[name] = _kinds_of(values)
        by_column.append(
            [text_of(value, location_of(ref, row, has_lines=False), name) for row, value in enumerate(values, start=1)]
        )
    rows = enumerate(zip(*by_column, strict=True), start=1)
    records: list[tuple[int, Cells]] = [(row, dict(zip(present, cells, strict=True))) for row, cells in rows]
    return Sheet(
        name=ref,
        stem=stem,
        columns=tuple(table.column_names),
        records=records,
        has_lines=False,
        value_kinds=value_kinds,
    )


def _kinds_of(values: Iterable[Value]) -> set[str]:
    return {value.kind for value in values if isinstance(value, NotText)}


def prepared_sheet(path: Path, ref: str, seed: int, fetch: Fetch) -> Sheet:
    """Return the rows of the `prepare(fetch, seed)` in a Python file."""
    prepare = function_in(path, "prepare", "(fetch, seed)", setting=f"data.prepare = {ref!r}")
    columns: dict[str, None] = {}
    records: list[tuple[int, Cells]] = []
    value_kinds: dict[str, set[str]] = {}
    for number, row in enumerate(prepare(fetch, seed), start=1):
        where = location_of(ref, number, has_lines=False)
        if not isinstance(row, Mapping):
            raise DataError(f"{where}: prepare gave a {type(row).__name__}; expected a dict of columns")
        values = {name: value_of(value) for name, value in row.items()}
        cells = {name: text_of(value, where, name) for name, value in values.items()}
        for name, value in values.items():
            value_kinds.setdefault(name, set()).update(_kinds_of([value]))
        columns.update(dict.fromkeys(cells))
        records.append((number, cells))
    return Sheet(
        name=ref,
        stem=path.stem,
        columns=tuple(columns),
        records=records,
        has_lines=False,
        has_header=False,
        value_kinds=value_kinds,
    )
