"""Open a recipe or a finished run for the commands that look at the teacher's work."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

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


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says about the recipe; the same words name the same run as `hybrid.recipe` does."""

    recipe: str
    profile: str = ""
    runs: Path = Path("runs")
    name: str = ""
    teacher: str = ""
    settings: tuple[str, ...] = ()


@contextmanager
def recipe_story(asked: Asked) -> Iterator[RunContext]:
    """Yield the story of a recipe, its rows dealt; nobody else works in its run folder meanwhile.

    The rows are dealt in the folder that the recipe's run has or will have, so both see the same training rows.

    Raises:
        HybridError: what reading the recipe or dealing its rows raises.
    """
    settings = parse_settings(asked.settings)
    if asked.teacher:
        settings.setdefault("teacher", {})["model"] = asked.teacher
    path = find_recipe(asked.recipe)
    recipe = read_recipe(path, profile=asked.profile, overrides=settings)
    if recipe.task == "multi_label":
        raise ConfigError(f"{path}: task = 'multi_label': a teacher works with one label a text only, so there is none")
    folder = run_folder(recipe, Options(runs=asked.runs, name=asked.name))
    with run_lock(folder):
        context = open_context(recipe, path.parent, folder, asked.runs, Screen())
        run_stage(SPLIT, context)
        yield context


def run_story(run: Path) -> RunContext:
    """Return the story of a finished run, as it was started.

    Raises:
        DataError: `run` is no finished run.
    """
    noted = read_run_manifest(run)
    return RunContext(noted.recipe, Path(noted.folder), Run(run, Screen()), shared_folder(run) / "traces.sqlite")
