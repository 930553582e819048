"""Run a recipe from start to finish, or estimate what a run would cost."""

from pathlib import Path

from hybrid.config import Recipe
from hybrid.pipeline.launch import Options, open_context, run_folder, run_lock, run_seeds
from hybrid.progress import Screen


def launch(recipe: Recipe, recipe_dir: Path, options: Options, screen: Screen | None = None) -> Path:
    """Run a recipe once for each seed, and write summary, page and cards; return the folder of the run.

    `screen` shows the progress; None: on the terminal.

    Raises:
        HybridError: an error that the user can fix; finished stages are kept.
    """
    from hybrid.report import write_outcome
    from hybrid.report.console_summary import closing_lines
    from hybrid.report.summary import SeedFigures

    screen, folder = screen or Screen(), run_folder(recipe, options)
    with run_lock(folder):
        seeds = run_seeds(recipe, recipe_dir, options, screen)
        figures = [SeedFigures.read(seed.context, seed.variants) for seed in seeds]
        write_outcome(seeds[0].context, figures)
    for line in closing_lines(folder):
        screen.say(line)
    return folder


def forecast(recipe: Recipe, recipe_dir: Path, options: Options) -> None:
    """Print the calls that a run would make to its language models, and their cost; split the rows but send nothing.

    Raises:
        HybridError: an error that the user can fix.
    """
    from hybrid.pipeline.estimate import estimate
    from hybrid.pipeline.stages import run_stage
    from hybrid.stages.split import SPLIT

    screen, folder = Screen(), run_folder(recipe, options)
    with run_lock(folder):
        context = open_context(recipe, recipe_dir, folder, options.runs, screen)
        run_stage(SPLIT, context)
        for line in estimate(context, context.traces):
            screen.say(line)
