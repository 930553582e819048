"""A finished run's bundle at another precision: the same encoder, with a calibration and a threshold of its own."""

import shutil
import tempfile
from pathlib import Path

import msgspec

from hybrid.config import Recipe
from hybrid.errors import DataError, StorageError
from hybrid.files.links import link_or_copy
from hybrid.files.table import write_json
from hybrid.pipeline.context import RunContext
from hybrid.pipeline.judge import calibrate
from hybrid.pipeline.model import quantize
from hybrid.pipeline.run import Run
from hybrid.progress import Screen
from hybrid.types import Precision, Row

RECIPE = "recipe.json"
STAGES = ("split", "clean", "train", "export")


class RunManifest(Row, frozen=True, kw_only=True):
    """What a run was started with."""

    recipe: Recipe
    folder: str
    """Where the recipe lies."""


def write_run_manifest(run: Run, recipe: Recipe, folder: Path) -> None:
    """Write beside a run's stages what it was started with."""
    write_json(run.path(RECIPE), RunManifest(recipe=recipe, folder=str(folder.resolve())))


def requantize(run: Path, target: Path, precision: Precision) -> None:
    """Write the bundle of a finished run at `precision` into the new folder `target`; the run stays as it is.

    Below fp32 the gates of the recipe hold here too.

    Raises:
        DataError: `run` is no finished run.
        StorageError: `target` exists.
        ExportError: the precision fails a gate.
    """
    noted = read_run_manifest(run)
    if target.exists():
        raise StorageError(f"{target}: is there already; name a folder that is not")
    recipe = msgspec.structs.replace(
        noted.recipe, quantize=msgspec.structs.replace(noted.recipe.quantize, precision=precision)
    )
    # On the disk of the run, so that its large files can be linked.
    with tempfile.TemporaryDirectory(dir=run, prefix=".precision-") as scratch:
        beside = Run(Path(scratch), Screen())
        for stage in STAGES:
            shutil.copytree(run / stage, beside.path(stage), copy_function=link_or_copy)
        story = RunContext(recipe, Path(noted.folder), beside, shared_folder(run) / "traces.sqlite")
        quantize(story)
        calibrate(story)
        shutil.copytree(beside.path("bundle"), target)


def read_run_manifest(run: Path) -> RunManifest:
    """Return what a run was started with.

    Raises:
        DataError: `run` is no run of a recipe, or one of its stages up to the export is not finished.
    """
    try:
        noted = msgspec.json.decode((run / RECIPE).read_bytes(), type=RunManifest)
    except (OSError, msgspec.DecodeError) as error:
        raise DataError(
            f"{run}: not a run of a recipe ({RECIPE}: {error}); want a folder such as runs/sentiment/embedded"
        ) from error
    missing = [stage for stage in STAGES if not (run / stage / "stamp.json").is_file()]
    if missing:
        raise DataError(f"{run}: {missing[0]} is not finished; run the recipe to its end first")
    return noted


def shared_folder(run: Path) -> Path:
    """Return the folder that all runs of a recipe share; the runs of further seeds lie one level deeper."""
    run = run.resolve()
    return run.parents[1] if run.name.startswith("seed-") and (run.parent / RECIPE).is_file() else run.parent
