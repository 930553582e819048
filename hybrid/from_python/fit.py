"""`hybrid.fit`: from rows in a Python program to a bundle, in one call."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from hybrid.config import Recipe
from hybrid.errors import ConfigError
from hybrid.files.table import write_bytes
from hybrid.from_python.fitted import Fitted
from hybrid.from_python.given_rows import Column, GivenRows, given_rows, has_column, is_rows
from hybrid.from_python.settings import recipe_settings

RECIPE_FOLDER = "recipe"
"""In the run: the recipe that `fit` writes, and the rows that it was given."""
DATA, TEST = "data.jsonl", "test.jsonl"
NEEDED = ("torch", "transformers", "sklearn", "rich")
"""Packages of the extra `train`, some of those that the runtime does without."""
SEPARATOR = "|"
"""Stands between the labels of a row, where the data hold them as a list (`data.separator` of a recipe)."""


class _Source(msgspec.Struct, frozen=True, kw_only=True):
    """Data as a recipe names them: a file's path or a data set on the hub, and what has to be written first."""

    ref: str
    content: bytes = b""
    names: Mapping[str, str]
    annotators: tuple[str, ...] = ()


def fit(
    data: Any,
    /,
    *,
    text: Column = "text",
    label: Column | None = None,
    gold: Column = "",
    annotators: Sequence[str] | Mapping[str, Iterable[Any]] = (),
    id: Column = "",
    split: Column | Mapping[str, Any] = "",
    test: Any = None,
    encoder: str | os.PathLike[str] | Mapping[str, Any] = "",
    teacher: str | Mapping[str, Any] = "",
    decoder: str | Mapping[str, Any] = "",
    budget_usd: float | None = None,
    run_dir: str | os.PathLike[str] | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Fitted:
    """Clean labels, train, calibrate and judge a classifier of your own rows: what the command line does with a recipe.

    The same call again skips what is finished and unchanged; a call that was stopped goes on. The run folder has the rows
    (`recipe/data.jsonl`) and the recipe (`recipe/recipe.toml`), so the commands of `hybrid` work on it as on any run.

    Args:
        data: a DataFrame of pandas or polars, a `datasets.Dataset`, a dict of columns, a list of dicts, a list of texts,
            or the path of a file (csv, tsv, jsonl, parquet, xlsx) or "hf:owner/name".
        text: the column of the texts. This and the columns below are a name, or the values themselves, one a row.
        label: the column of the given labels; by default "label", and none where there are `annotators`. With task="multi_label" a cell may be a list of labels.
        gold: the column of trusted labels, used to calibrate and to test; may be empty on some rows.
        annotators: in place of `label`, the columns of single annotators.
        id: a column that names each row.
        split: a column that says train, calibration or test; or a dict with the settings of the recipe's [split].
        test: the test rows, where they are apart: the same kinds as `data`, with the same columns.
        encoder: "minilm" (the default), "mpnet", "multilingual", "deberta"; any model as a recipe's encoder.model names it, such as a
            folder or "hf:owner/name"; or a dict with the settings of [encoder], such as `{"model": "mpnet", "max_length": 256}`.
        teacher: the language model that verifies labels: "claude-...", "local", a .gguf path; or a dict with the
            settings of [teacher], such as `{"model": "qwen", "base_url": "http://127.0.0.1:8000"}`.
        decoder: the same for the model that answers what the encoder is not sure of.
        budget_usd: the most that the teacher may cost.
        run_dir: the folder of the run; by default `runs/fit/` and a name made of the data. The folder above it is shared by
            runs of the same data: it keeps the answers of language models and of people.
        quiet: whether nothing is printed.
        **settings: every other setting of a recipe (`hybrid/config.py`): a section as a dict, such as
            `train={"epochs": 3}` or `quantize={"precision": "fp32"}`, or one of the recipe's own keys, such as `seed=1`,
            `labels=["bad", "good"]` or `task="multi_label"`.

    Raises:
        ConfigError: a setting is unknown or out of range, or two do not go together.
        DataError: a column, a row or a label is not what it should be; the message names it.
        HybridError: whatever else the user can mend; what was finished stays.
    """
    _check_installed()
    sections: dict[str, Any] = dict(settings)
    if isinstance(split, Mapping):
        sections["split"], split = split, ""
    given = recipe_settings(sections, encoder=_plain(encoder), teacher=teacher, decoder=decoder, budget_usd=budget_usd)
    if label is None:
        label = "" if annotators else "label"
    purposes: dict[str, Column] = {"text": text, "label": label, "gold": gold, "id": id, "split": split}
    separator = _separator(given)
    main = _source(data, purposes, annotators, name=DATA, what="data", separator=separator)
    apart = None
    if test is not None:
        columns = {purpose: name for purpose, name in main.names.items() if purpose == "text" or _may_have(test, name)}
        of_test = [name for name in main.annotators if _may_have(test, name)]
        apart = _source(test, columns, of_test, name=TEST, what="test", separator=separator)
    folder = Path(run_dir) if run_dir is not None else Path("runs", "fit", _name_of(main, apart))
    return _run(folder.expanduser().resolve(), main, apart, given, quiet=quiet)


def _check_installed() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"fit: {missing[0]} is not installed, and training needs more than the runtime; install it with: pip install "
            "'hybrid-cascade[train]'"
        )


def _plain(encoder: str | os.PathLike[str] | Mapping[str, Any]) -> str | Mapping[str, Any]:
    return encoder if isinstance(encoder, str | Mapping) else os.fspath(encoder)


def _separator(settings: Mapping[str, Any]) -> str:
    """What joins the labels of a cell; empty where a text has one label."""
    if settings.get("task") != "multi_label":
        return ""
    section = settings.get("data", {})
    return str(section.get("separator", SEPARATOR)) if isinstance(section, Mapping) else SEPARATOR


def _source(
    data: Any,
    purposes: Mapping[str, Column],
    annotators: Sequence[str] | Mapping[str, Iterable[Any]],
    *,
    name: str,
    what: str,
    separator: str,
) -> _Source:
    if is_rows(data):
        rows: GivenRows = given_rows(data, purposes, annotators=annotators, separator=separator, what=what)
        return _Source(ref=name, content=rows.jsonl(), names=rows.names, annotators=rows.annotators)
    names: dict[str, str] = {}
    for purpose, column in purposes.items():
        if not isinstance(column, str):
            raise ConfigError(
                f"fit: {purpose} is a {type(column).__name__} beside a file; expected the name of a column"
            )
        if column:
            names[purpose] = column
    if isinstance(annotators, Mapping):
        raise ConfigError("fit: annotators is a dict beside a file; expected the names of columns")
    ref = os.fspath(data)
    ref = ref if ref.startswith("hf:") else str(Path(ref).expanduser().resolve())
    return _Source(ref=ref, names=names, annotators=tuple(annotators))


def _may_have(data: Any, column: str) -> bool:
    """Whether rows in memory have a column; of a file its reader says so."""
    return not is_rows(data) or has_column(data, column)


def _name_of(main: _Source, test: _Source | None) -> str:
    """A name for a run of these rows and columns: the same rows go on in the same folder."""
    digest = sha256(repr(sorted(main.names.items())).encode())
    for source in (main, test):
        if source is not None:
            digest.update(source.ref.encode() + b"\0" + source.content)
    return digest.hexdigest()[:8]


def _run(folder: Path, main: _Source, test: _Source | None, settings: Mapping[str, Any], *, quiet: bool) -> Fitted:
    # Imported when used: `import hybrid` and a mistake in the data need none of it.
    from hybrid.commands.run import launch
    from hybrid.pipeline.launch import Options, run_lock
    from hybrid.progress import Screen

    with run_lock(folder):
        recipe = _written(folder / RECIPE_FOLDER, folder.parent.name, main, test, settings)
    options = Options(runs=folder.parent.parent, name=folder.name)
    launch(recipe, folder / RECIPE_FOLDER, options, Screen(quiet=quiet))
    return Fitted.read(folder)


def _written(recipe_dir: Path, name: str, main: _Source, test: _Source | None, settings: Mapping[str, Any]) -> Recipe:
    """Write the rows and the recipe into the run, each where it differs from what is there, and read the recipe."""
    from hybrid.recipe_files.read import read_recipe
    from hybrid.recipe_files.scaffold import new_recipe

    for source in (main, test):
        if source is not None and source.content:
            path = recipe_dir / source.ref
            if not path.is_file() or path.read_bytes() != source.content:
                write_bytes(path, source.content)
    (recipe_dir / "recipe.toml").unlink(missing_ok=True)
    path = new_recipe(
        re.sub(r"[^A-Za-z0-9_.-]+", "-", name).strip("-.") or "fit",
        data=_place(recipe_dir, main),
        text=main.names["text"],
        label=main.names.get("label", ""),
        gold=main.names.get("gold", ""),
        id=main.names.get("id", ""),
        annotators=main.annotators,
        test="" if test is None else _place(recipe_dir, test),
        split=main.names.get("split", ""),
        settings=settings,
        folder=recipe_dir,
    )
    # A run's folder is called by the recipe's name, whatever characters the folder's has.
    return read_recipe(path, overrides={"name": name})


def _place(recipe_dir: Path, source: _Source) -> str:
    return str(recipe_dir / source.ref) if source.content else source.ref
