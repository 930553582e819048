"""From a recipe to its outcome: run folders, seeds, summary and report."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from hybrid.config import Recipe
from hybrid.errors import StorageError
from hybrid.files.locks import file_lock
from hybrid.pipeline.ablation import ablate, served_variant
from hybrid.pipeline.context import RunContext
from hybrid.pipeline.data import split
from hybrid.pipeline.requantize import write_run_manifest
from hybrid.pipeline.run import Run
from hybrid.pipeline.stages import run_stages
from hybrid.progress import Screen
from hybrid.report import write_outcome
from hybrid.report.console_summary import closing_lines
from hybrid.report.summary import SeedFigures


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says beside the recipe."""

    runs: Path
    name: str = ""
    seeds: int = 1
    ablate: bool = False


def launch(recipe: Recipe, recipe_dir: Path, options: Options) -> Path:
    """Run a recipe, once a seed; return the folder of the run.

    The first seed's run lies in that folder, the others' in `seed-N` below it.

    Raises:
        HybridError: anything that the user can mend; what was finished stays.
    """
    screen = Screen()
    folder = options.runs / recipe.name / (options.name or recipe.profile or "default")
    with run_lock(folder):
        first = _run_seed(recipe, recipe_dir, folder, options, screen)
        figures = [first]
        for step in range(1, options.seeds):
            seeded = msgspec.structs.replace(recipe, seed=recipe.seed + step)
            figures.append(_run_seed(seeded, recipe_dir, folder / f"seed-{seeded.seed}", options, screen))
        write_outcome(RunContext(recipe, recipe_dir, Run(folder, screen), traces_of(recipe, options.runs)), figures)
    for line in closing_lines(folder):
        screen.say(line)
    return folder


def forecast(recipe: Recipe, recipe_dir: Path, options: Options) -> None:
    """Print what a run would ask of its language models and what that costs; split the rows and send nothing.

    Raises:
        HybridError: anything that the user can mend.
    """
    from hybrid.pipeline.estimate import estimate

    screen = Screen()
    folder = options.runs / recipe.name / (options.name or recipe.profile or "default")
    with run_lock(folder):
        traces = traces_of(recipe, options.runs)
        story = RunContext(recipe, recipe_dir, Run(folder, screen), traces)
        split(story)
        for line in estimate(story, traces):
            screen.say(line)


def _run_seed(recipe: Recipe, recipe_dir: Path, folder: Path, options: Options, screen: Screen) -> SeedFigures:
    """Run every stage for one seed; return the figures that the summary averages over seeds."""
    named = f", profile {recipe.profile}" if recipe.profile else ""
    screen.say(f"{recipe.name}{named}, seed {recipe.seed}: {folder}")
    story = RunContext(recipe, recipe_dir, Run(folder, screen), traces_of(recipe, options.runs))
    write_run_manifest(story.run, recipe, recipe_dir)
    run_stages(story)
    variants = ablate(story) if options.ablate else [served_variant(story)]
    return SeedFigures.read(story, variants)


def traces_of(recipe: Recipe, runs: Path) -> Path:
    """Return the trace store: one a recipe, so that no run asks again what another has asked."""
    return runs / recipe.name / "traces.sqlite"


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
