"""`hybrid estimate`: what a run would ask of its language models and what that costs, before anything is spent."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid.commands.arguments import add_json
from hybrid.commands.run_arguments import add_run_arguments, read_arguments

if TYPE_CHECKING:
    from hybrid.config import Recipe
    from hybrid.pipeline.estimate import RoleEstimate
    from hybrid.pipeline.launch import Options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `hybrid estimate`: those of `hybrid run`."""
    add_run_arguments(parser)
    add_json(parser)
    parser.set_defaults(act=lambda options: forecast(*read_arguments(options)))


def forecast(recipe: "Recipe", recipe_dir: Path, options: "Options") -> "list[RoleEstimate]":
    """Print and return the calls that a run would make to its language models, and their cost; split the rows but send nothing.

    Raises:
        HybridError: an error that the user can fix.
    """
    from hybrid.pipeline.estimate import estimate, estimate_lines
    from hybrid.pipeline.launch import open_context, run_folder, run_lock
    from hybrid.pipeline.stages import run_stage
    from hybrid.progress import Screen
    from hybrid.stages.split import SPLIT

    screen, folder = Screen(), run_folder(recipe, options)
    with run_lock(folder):
        context = open_context(recipe, recipe_dir, folder, options.runs, screen)
        run_stage(SPLIT, context)
        estimates = estimate(context, context.traces)
    for line in estimate_lines(estimates):
        screen.say(line)
    return estimates
