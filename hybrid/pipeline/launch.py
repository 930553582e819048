"""Run folders: one a recipe and name, held by one process at a time, and a run of the stages for each seed."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from hybrid.config import Recipe
from hybrid.errors import StorageError
from hybrid.files.locks import file_lock
from hybrid.pipeline.ablation import ablate, served_variant
from hybrid.pipeline.context import REVISIONS, RunContext
from hybrid.pipeline.requantize import write_run_manifest
from hybrid.pipeline.run import Run
from hybrid.pipeline.stages import run_stages
from hybrid.progress import Screen


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says beside the recipe."""

    runs: Path
    name: str = ""
    seeds: int = 1
    ablate: bool = False


class SeedRun(msgspec.Struct, frozen=True, kw_only=True):
    """The finished run of one seed."""

    context: RunContext
    variants: list[str]
    """The training variants that there are figures for, the one that ships first."""


def run_seeds(recipe: Recipe, recipe_dir: Path, options: Options, screen: Screen) -> list[SeedRun]:
    """Run every stage, once a seed. The first seed's run lies in the run folder, the others' in `seed-N` below it.

    Raises:
        HybridError: anything that the user can mend; what was finished stays.
    """
    folder = run_folder(recipe, options)
    finished = [_run_seed(recipe, recipe_dir, folder, options, screen)]
    for step in range(1, options.seeds):
        seeded = msgspec.structs.replace(recipe, seed=recipe.seed + step)
        own = folder / f"seed-{seeded.seed}"
        if (folder / REVISIONS).is_file():
            # One run, one revision: the seeds differ in nothing else.
            own.mkdir(exist_ok=True)
            shutil.copy2(folder / REVISIONS, own / REVISIONS)
        finished.append(_run_seed(seeded, recipe_dir, own, options, screen))
    return finished


def run_folder(recipe: Recipe, options: Options) -> Path:
    """The folder of a run: its name on the command line, else its profile's."""
    return options.runs / recipe.name / (options.name or recipe.profile or "default")


def open_context(recipe: Recipe, recipe_dir: Path, folder: Path, runs: Path, screen: Screen) -> RunContext:
    """A recipe in a run folder. The trace store is one a recipe, so that no run asks again what another has asked."""
    return RunContext(recipe, recipe_dir, Run(folder, screen), runs / recipe.name / "traces.sqlite")


def _run_seed(recipe: Recipe, recipe_dir: Path, folder: Path, options: Options, screen: Screen) -> SeedRun:
    named = f", profile {recipe.profile}" if recipe.profile else ""
    screen.say(f"{recipe.name}{named}, seed {recipe.seed}: {folder}")
    context = open_context(recipe, recipe_dir, folder, options.runs, screen)
    write_run_manifest(context.run, recipe, recipe_dir)
    run_stages(context)
    return SeedRun(context=context, variants=ablate(context) if options.ablate else [served_variant(context)])


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold the run folder, so that two processes never write the same tables.

    Raises:
        StorageError: the folder cannot be made, or another process holds it.
    """
    refusal = f"{folder}: another process works in this run; wait for it, or choose another folder with --name"
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(file_lock(folder / ".lock", refusal=refusal))
        except OSError as error:
            raise StorageError(f"{folder}: cannot be written ({error.strerror}); choose another with --runs") from error
        yield
