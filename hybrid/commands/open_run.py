"""Open a recipe or a finished run for the commands that inspect the teacher's work."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from hybrid.config import LLMConfig
from hybrid.errors import ConfigError
from hybrid.overrides import parse_settings
from hybrid.pipeline.context import RunContext
from hybrid.pipeline.launch import Options, open_context, run_folder, run_lock
from hybrid.pipeline.requantize import read_run_manifest, shared_folder
from hybrid.pipeline.run import Run
from hybrid.pipeline.stages import run_stage
from hybrid.progress import Screen
from hybrid.recipe_files.find import find_recipe
from hybrid.recipe_files.read import read_recipe
from hybrid.stages.split import SPLIT
from hybrid.teacher.inputs import TeacherInputs


class RecipeArguments(msgspec.Struct, frozen=True, kw_only=True):
    """Command-line arguments that select a recipe and, as with `hybrid.recipe`, its run folder."""

    recipe: str
    profile: str = ""
    runs: Path = Path("runs")
    name: str = ""
    teacher: str = ""
    settings: tuple[str, ...] = ()


def recipe_arguments(options: argparse.Namespace) -> RecipeArguments:
    """What `hybrid.commands.arguments.add_recipe` has read."""
    return RecipeArguments(
        recipe=options.recipe,
        profile=options.profile,
        runs=options.runs,
        name=options.name,
        teacher=options.teacher,
        settings=tuple(options.set),
    )


@contextmanager
def open_recipe(arguments: RecipeArguments) -> Iterator[RunContext]:
    """Yield the context of a recipe with its rows split, while holding the lock on its run folder.

    The split is that of the recipe's run, so commands and run see the same training rows.

    Raises:
        HybridError: the recipe cannot be read, or its rows cannot be split.
    """
    settings = parse_settings(arguments.settings)
    if arguments.teacher:
        settings.setdefault("teacher", {})["model"] = arguments.teacher
    path = find_recipe(arguments.recipe)
    recipe = read_recipe(path, profile=arguments.profile, overrides=settings)
    if recipe.task == "multi_label":
        raise ConfigError(f"{path}: task = 'multi_label': teachers support one label per text only")
    folder = run_folder(recipe, Options(runs=arguments.runs, name=arguments.name))
    with run_lock(folder):
        context = open_context(recipe, path.parent, folder, arguments.runs, Screen())
        run_stage(SPLIT, context)
        yield context


def open_run(run: Path) -> RunContext:
    """Open a finished run, with the recipe as it was started.

    Raises:
        DataError: `run` is not a finished run.
    """
    manifest = read_run_manifest(run)
    return RunContext(manifest.recipe, Path(manifest.folder), Run(run, Screen()), shared_folder(run) / "traces.sqlite")


def teacher_inputs(context: RunContext) -> TeacherInputs:
    """Gather the inputs of `hybrid policy` and `hybrid pilot`."""
    return TeacherInputs(
        recipe=context.recipe,
        recipe_dir=context.recipe_dir,
        run_dir=context.run.folder,
        shared_dir=context.traces.parent,
        labels=context.labels,
        rows=context.rows("train"),
        trusted=context.trusted(),
        open_teacher=lambda config: _with_teacher(context, config).llm("teacher"),
    )


def _with_teacher(context: RunContext, config: LLMConfig) -> RunContext:
    if config == context.recipe.teacher:
        return context
    recipe = msgspec.structs.replace(context.recipe, teacher=config)
    return RunContext(recipe, context.recipe_dir, context.run, context.traces)
