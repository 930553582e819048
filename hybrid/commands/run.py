"""`hybrid run`: a recipe from start to finish."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybrid.commands.arguments import add_json
from hybrid.commands.run_arguments import add_run_arguments, read_arguments

if TYPE_CHECKING:
    from hybrid.config import Recipe
    from hybrid.pipeline.launch import Options
    from hybrid.progress import Screen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `hybrid run`."""
    add_run_arguments(parser)
    parser.add_argument(
        "--estimate",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="say what the language models would be asked and what it costs; spend nothing (as hybrid estimate)",
    )
    add_json(parser)
    parser.set_defaults(act=_run)


def launch(recipe: "Recipe", recipe_dir: Path, options: "Options", screen: "Screen | None" = None) -> Path:
    """Run a recipe once for each seed, and write summary, page and cards; return the folder of the run.

    `screen` shows the progress; None: on the terminal.

    Raises:
        HybridError: an error that the user can fix; finished stages are kept.
    """
    from hybrid.pipeline.launch import run_folder, run_lock, run_seeds
    from hybrid.progress import Screen
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


def outcome(run: Path) -> dict[str, Any]:
    """Where a finished run has its results, and its summary."""
    import msgspec

    return {
        "run": str(run),
        "bundle": str(run / "bundle"),
        "report": str(run / "report.html"),
        "summary": msgspec.json.decode((run / "summary.json").read_bytes()),
    }


def _run(options: argparse.Namespace) -> object:
    if options.estimate:
        from hybrid.commands.estimate import forecast

        return forecast(*read_arguments(options))
    return outcome(launch(*read_arguments(options)))
