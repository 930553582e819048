"""Write a commented recipe for a user's own data. Its settings stand at their defaults, but for the sizes of the parts."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from hybrid.artifacts import fetch
from hybrid.config import (
    BundleConfig,
    CalibrateConfig,
    CleanConfig,
    DataConfig,
    EncoderConfig,
    Recipe,
    TrainConfig,
    VerifyConfig,
)
from hybrid.data.annotations import no_votes_phrase
from hybrid.data.source_rows import Dataset, labels_of
from hybrid.data.sources import load_data
from hybrid.errors import ConfigError
from hybrid.files.table import write_bytes
from hybrid.overrides import merge
from hybrid.recipe_files.toml_text import to_toml, with_settings
from hybrid.toml_settings import to_struct


def new_recipe(
    name: str,
    *,
    data: str,
    text: str,
    label: str,
    gold: str = "",
    id: str = "",
    annotators: Sequence[str] = (),
    test: str = "",
    split: str = "",
    settings: Mapping[str, Any] | None = None,
    folder: Path,
) -> Path:
    """Write `<folder>/recipe.toml` for a data set, after a look at the data, and return its path.

    Args:
        data: a csv, tsv, jsonl, parquet or xlsx file (from the working directory if relative), or `hf:owner/name[:split]`.
        test: the same for a ready test set.
        text, label, gold, id, annotators, split: columns, as in `hybrid.config.DataConfig`.
        settings: further settings of the recipe, by section.

    Raises:
        ConfigError: the name cannot name a folder, a setting is wrong, or another recipe is there already.
        DataError: the data cannot be read as described.
        StorageError: the recipe cannot be written.
    """
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name, re.ASCII):
        raise ConfigError(
            f"{name!r} cannot name a recipe; expected letters, digits, '-', '_' and '.', as in 'my-tickets'"
        )
    config = DataConfig(
        train=_from_recipe(data, folder),
        test=_from_recipe(test, folder),
        text=text,
        label=label,
        gold=gold,
        id=id,
        annotators=tuple(annotators),
        split=split,
    )
    path = folder / "recipe.toml"
    recipe = to_struct(
        merge({"name": name, "data": msgspec.to_builtins(config)}, settings or {}), Recipe, str(path), "settings"
    )
    # Read by absolute paths: the recipe's folder may not exist yet, and is not made where the data is refused.
    located = msgspec.structs.replace(recipe.data, train=_absolute(data), test=_absolute(test))
    dataset = load_data(located, folder=folder, seed=recipe.seed, fetch=fetch, task=recipe.task, labels=recipe.labels)
    lines = with_settings(list(_lines(name, config, dataset)), settings or {})
    content = "\n".join(lines) + "\n"
    if not path.exists():
        write_bytes(path, content.encode())
    elif path.read_bytes() != content.encode():
        raise ConfigError(f"{path}: a recipe is there already and differs; run it, remove it, or choose another name")
    return path


def _is_file(ref: str) -> bool:
    return bool(ref) and not ref.startswith("hf:")


def _absolute(ref: str) -> str:
    return str(Path(ref).expanduser().resolve()) if _is_file(ref) else ref


def _from_recipe(ref: str, folder: Path) -> str:
    """A file's path relative to the recipe's folder, so that the two can be moved together."""
    return Path(os.path.relpath(_absolute(ref), folder.resolve())).as_posix() if _is_file(ref) else ref


def _lines(name: str, config: DataConfig, dataset: Dataset) -> Iterator[str]:
    yield "# Every setting that is commented out stands at its default."
    yield from (
        f"name = {to_toml(name)}",
        "# The labels in the data, in the order in which the report shows them. A typo in a later row",
    )
    yield "# is then an error and not a new class."
    yield from (f"labels = {to_toml(labels_of(dataset))}", f"seed = {to_toml(0)}", "")
    yield from _data_lines(config, dataset)
    yield from _split_lines(dataset)
    yield from _model_lines()
    yield from _stage_lines()


def _data_lines(config: DataConfig, dataset: Dataset) -> Iterator[str]:
    yield "# Paths start at the folder of this file."
    yield from ("[data]", f"train = {to_toml(config.train)}")
    if config.test:
        yield f"test = {to_toml(config.test)}"
    yield f"text = {to_toml(config.text)}"
    if config.annotators:
        yield "# One column an annotator; the given label is their majority."
        yield f"annotators = {to_toml(list(config.annotators))}"
        yield "# Cells that mean no vote, in any case, beside empty ones. A value that stands in `labels` is a vote."
        if phrase := no_votes_phrase(dataset.no_votes, dataset.rows_without_vote).removeprefix("; "):
            yield f"# In these data: {phrase}."
        yield f"# no_vote = {to_toml(list(config.no_vote))}"
    else:
        yield f"label = {to_toml(config.label)}"
    yield "# Labels that differ in nothing that a reader sees, or in case alone, are an error; join makes them one label."
    yield f"# alike_labels = {to_toml(DataConfig().alike_labels)}"
    if config.gold:
        yield "# Trusted labels, on all rows or some: used for calibration and testing, never for training."
        yield f"gold = {to_toml(config.gold)}"
    else:
        yield "# Without a column of trusted labels the given labels are used for scoring; the report says what that hides."
        yield '# gold = ""'
    if config.id:
        yield f"id = {to_toml(config.id)}"
    if config.split:
        yield "# A column with train, calibration or test on every row."
        yield f"split = {to_toml(config.split)}"
    yield ""


def _split_lines(dataset: Dataset) -> Iterator[str]:
    parts = [row.part for row in dataset.rows]
    if "calibration" in parts:
        return
    n_rows = sum(part in (None, "train") for part in parts)
    yield f"# Rows, or a share of them where under 1. There are {n_rows:,} rows to split; train gets the rest."
    yield "[split]"
    yield from _calibration_lines(n_rows)
    if "test" in parts:
        yield "# The data says which rows are for test."
        yield "test = 0"
    else:
        # More test rows than this narrow the intervals little, and training has fewer.
        yield f"test = {to_toml(0.25 if n_rows <= 20_000 else 5_000)}"
    yield ""


def _calibration_lines(n_rows: int) -> Iterator[str]:
    if n_rows < 1_000:
        yield "# Few rows, so a larger share: a threshold chosen on few rows guarantees little."
        yield "calibration = 0.2"
    else:
        yield f"calibration = {to_toml(_calibration_size(n_rows))}"


def _calibration_size(n_rows: int) -> float:
    """A share of few rows, a fixed number of many: some hundreds are enough, and training gets the rest."""
    if n_rows <= 4_000:
        return 0.15
    return 600 if n_rows <= 20_000 else 3_000


def _model_lines() -> Iterator[str]:
    yield "[encoder]"
    yield '# Or "hf:microsoft/deberta-v3-base" (then also train.learning_rate = 2e-5), or a folder with a model.'
    yield f"model = {to_toml(EncoderConfig().model)}"
    yield f"# max_length = {to_toml(EncoderConfig().max_length)}"
    yield ""
    yield '# Votes on the labels of the training rows. "none": only a classifier looks for suspect labels.'
    yield '# Else "claude-..." (key in ANTHROPIC_API_KEY), "local" (a small model in this process, for a trial run),'
    yield '# any name with base_url = "http://..." (a server that speaks the Messages protocol),'
    yield '# or "recorded" with traces = "traces.jsonl".'
    yield from ("[teacher]", 'model = "none"')
    yield "# A text file with your labelling rules; the teacher reads it before every row."
    yield from ('# policy = ""', "")
    yield "# Answers the texts that the encoder is not sure of. Same choices as for the teacher."
    yield from ("[decoder]", 'model = "none"', "")


def _stage_lines() -> Iterator[str]:
    train, calibrate = TrainConfig(), CalibrateConfig()
    yield from (
        "[verify]",
        "# Votes of the teacher per row; an odd number.",
        f"# votes = {to_toml(VerifyConfig().votes)}",
        "",
    )
    yield from (
        "[clean]",
        "# Quality of the consensus from which a row is relabelled. Below it the row waits for review.",
    )
    yield from (f"# relabel = {to_toml(CleanConfig().relabel)}", "")
    yield from ("[train]", '# "given" trains on the given labels, for comparison.')
    yield f"# labels = {to_toml(train.labels)}"
    yield f"# epochs = {to_toml(train.epochs)}"
    yield f"# batch_size = {to_toml(train.batch_size)}"
    yield f"# learning_rate = {to_toml(train.learning_rate)}"
    yield '# "balanced" or "sqrt" gives rare classes more weight.'
    yield f"# class_weights = {to_toml(train.class_weights)}"
    yield "# A second head learns which words the teacher's reasons quote: answers then have their evidence words. 0: none."
    yield f"# evidence = {to_toml(train.evidence_weight)}"
    yield ""
    yield "[calibrate]"
    yield "# Of the texts that the encoder keeps, at least this share is right (with probability 1 - delta)."
    yield from (f"# target = {to_toml(calibrate.target)}", f"# delta = {to_toml(calibrate.delta)}")
    yield from (
        "",
        "[bundle]",
        "# true: the bundle also carries the fp32 graph, for machines that compute int8 otherwise.",
    )
    yield f"# portable = {to_toml(BundleConfig().portable)}"
