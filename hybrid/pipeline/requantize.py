"""A finished run's bundle at another precision: the same encoder, with a calibration and a threshold of its own."""

import shutil
import tempfile
from pathlib import Path

import msgspec

from hybrid.config import Recipe
from hybrid.errors import DataError, StorageError
from hybrid.files.links import link_or_copy
from hybrid.files.table import write_json
from hybrid.pipeline.context import REVISIONS, RunContext
from hybrid.pipeline.run import STAMP, Run
from hybrid.pipeline.stages import STAGES, run_stage
from hybrid.progress import Screen
from hybrid.runtime.bundle import read_bundle
from hybrid.stages.calibrate import CALIBRATE
from hybrid.stages.quantize import QUANTIZE
from hybrid.stages.student import STUDENT
from hybrid.types import FP32, Precision, Row

RECIPE = "recipe.json"
BEFORE = STAGES[: STAGES.index(QUANTIZE)]
"""The stages that a bundle at another precision keeps."""


class RunManifest(Row, frozen=True, kw_only=True):
    """What a run was started with."""

    recipe: Recipe
    folder: str
    """Where the recipe lies."""


def write_run_manifest(run: Run, recipe: Recipe, folder: Path) -> None:
    """Write beside a run's stages what it was started with."""
    write_json(run.path(RECIPE), RunManifest(recipe=recipe, folder=str(folder.resolve())))


def requantize(run: Path, target: Path, precision: Precision, *, portable: bool = False) -> None:
    """Write the bundle of a finished run at `precision` into the new folder `target`; the run stays as it is.

    Below fp32 the gates of the recipe hold here too. A `portable` bundle carries the fp32 graph beside it.

    Raises:
        DataError: `run` is no finished run.
        StorageError: `target` exists.
        ExportError: the precision fails a gate.
    """
    manifest = read_run_manifest(run)
    if target.exists():
        raise StorageError(f"{target}: is there already; name a folder that is not")
    quantize = msgspec.structs.replace(manifest.recipe.quantize, precision=precision)
    bundle = msgspec.structs.replace(manifest.recipe.bundle, portable=portable)
    recipe = msgspec.structs.replace(manifest.recipe, quantize=quantize, bundle=bundle)
    # On the disk of the run, so that its large files can be linked.
    with tempfile.TemporaryDirectory(dir=run, prefix=".precision-") as scratch:
        beside = Run(Path(scratch), Screen())
        for stage in BEFORE:
            shutil.copytree(run / stage.name, beside.path(stage.name), copy_function=link_or_copy)
        if (run / STUDENT.name).is_dir():
            shutil.copytree(run / STUDENT.name, beside.path(STUDENT.name), copy_function=link_or_copy)
        if (run / REVISIONS).is_file():
            shutil.copy2(run / REVISIONS, beside.path(REVISIONS))
        context = RunContext(recipe, Path(manifest.folder), beside, shared_folder(run) / "traces.sqlite")
        run_stage(QUANTIZE, context)
        run_stage(CALIBRATE, context)
        shutil.copytree(beside.path("bundle"), target)


def make_portable(run: Path, target: Path) -> None:
    """Write a portable bundle of a finished run into the new folder `target`.

    It carries the fastest graph that passes the gates of those that every processor computes alike, or the precision that
    the recipe names, and the fp32 graph.

    Raises:
        DataError: `run` is no finished run, or serves fp32 anyway.
        StorageError: `target` exists.
    """
    manifest = read_run_manifest(run)
    if read_bundle(run / "bundle").precision == FP32:
        raise DataError(
            f"{run / 'bundle'}: serves the fp32 graph, which every machine computes alike; copy it as it is"
        )
    requantize(run, target, manifest.recipe.quantize.precision, portable=True)


def read_run_manifest(run: Path) -> RunManifest:
    """What a run was started with.

    Raises:
        DataError: `run` is no run of a recipe, or one of its stages up to the export is not finished.
    """
    try:
        manifest = msgspec.json.decode((run / RECIPE).read_bytes(), type=RunManifest)
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(
            f"{run}: not a run of a recipe ({RECIPE}: {error}); expected a folder such as runs/sentiment/embedded"
        ) from error
    missing = [stage.name for stage in BEFORE if not (run / stage.name / STAMP).is_file()]
    if missing:
        raise DataError(f"{run}: {missing[0]} is not finished; run the recipe to its end first")
    return manifest


def shared_folder(run: Path) -> Path:
    """The folder that all runs of a recipe share; the runs of further seeds lie one level deeper."""
    run = run.resolve()
    return run.parents[1] if run.name.startswith("seed-") and (run.parent / RECIPE).is_file() else run.parent
