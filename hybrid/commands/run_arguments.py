"""The arguments that select a recipe, its settings and its run folder: those of `hybrid run` and `hybrid estimate`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid.commands.arguments import add_runs, add_settings, count, whole

if TYPE_CHECKING:
    from hybrid.config import Recipe
    from hybrid.pipeline.launch import Options

TEACHER = "recorded, local, a .gguf file, claude-..., or none; instead of the recipe's"


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what selects a recipe, its settings and its run folder."""
    parser.add_argument("recipe", help="a shipped recipe's name, a folder, or the path of a recipe.toml")
    parser.add_argument("--profile", default="", help="a profile of the recipe, such as embedded or deberta")
    add_runs(parser)
    parser.add_argument("--name", default="", help="the name of the run's folder; without one, that of the profile")
    parser.add_argument("--teacher", default="", help=TEACHER)
    parser.add_argument("--decoder", default="", help="the same for the model that escalated texts go to")
    parser.add_argument(
        "--audit",
        type=Path,
        help="a csv or jsonl file of text,label or id,label: training rows that a person has checked",
    )
    parser.add_argument("--seed", type=whole, help="instead of the recipe's")
    parser.add_argument(
        "--seeds", type=count, default=1, help="repeat everything with this many seeds; report mean and spread"
    )
    parser.add_argument(
        "--ablate",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="also train on labels as given, with drafts, and on gold",
    )
    add_settings(parser)


def read_arguments(options: argparse.Namespace) -> "tuple[Recipe, Path, Options]":
    """The recipe with its settings, its folder, and what else the words of the command say.

    Raises:
        ConfigError: there is no such recipe, or a setting is wrong.
    """
    from hybrid.overrides import parse_settings
    from hybrid.pipeline.launch import Options
    from hybrid.recipe_files.find import find_recipe
    from hybrid.recipe_files.read import read_recipe

    settings = parse_settings(options.set)
    for section in ("teacher", "decoder"):
        if model := getattr(options, section):
            settings.setdefault(section, {})["model"] = model
    if options.audit is not None:
        # From where the command is given, not from the recipe's folder.
        settings.setdefault("data", {})["audit"] = str(options.audit.resolve())
    if options.seed is not None:
        settings["seed"] = options.seed
    path = find_recipe(options.recipe)
    recipe = read_recipe(path, profile=options.profile, overrides=settings)
    return (
        recipe,
        path.parent,
        Options(runs=options.runs, name=options.name, seeds=options.seeds, ablate=options.ablate),
    )
