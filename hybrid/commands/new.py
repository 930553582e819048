"""`hybrid new`: a commented recipe for your own data, and its first run."""

import argparse
from pathlib import Path

from hybrid.commands.arguments import add_data_columns, add_json, add_runs, add_settings, count
from hybrid.commands.run_arguments import TEACHER


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `hybrid new`."""
    parser.add_argument("name", help="the name of the recipe, and of its folder under --folder")
    parser.add_argument("--data", required=True, help="csv, tsv, jsonl, parquet or xlsx, or hf:owner/name: the rows")
    parser.add_argument("--text", required=True, help="the column of the texts")
    add_data_columns(parser)
    parser.add_argument(
        "--folder", type=Path, default=Path("recipes"), help="where the recipe's folder is made (%(default)s)"
    )
    add_runs(parser)
    parser.add_argument("--teacher", default="", help=TEACHER)
    parser.add_argument(
        "--seeds", type=count, default=1, help="repeat everything with this many seeds; report mean and spread"
    )
    add_settings(parser)
    parser.add_argument(
        "--write-only", action=argparse.BooleanOptionalAction, default=False, help="write the recipe and stop"
    )
    add_json(parser)
    parser.set_defaults(act=_new)


def _new(options: argparse.Namespace) -> object:
    from hybrid.overrides import parse_settings
    from hybrid.recipe_files.read import read_recipe
    from hybrid.recipe_files.scaffold import new_recipe

    path = new_recipe(
        options.name,
        data=options.data,
        text=options.text,
        label=options.label,
        gold=options.gold,
        id=options.id,
        annotators=options.annotators,
        test=options.test,
        split=options.split,
        settings=parse_settings(options.set),
        folder=options.folder / options.name,
    )
    print(f"recipe: {path}")
    written = {"recipe": str(path)}
    if options.write_only:
        return written
    from hybrid.commands.run import launch, outcome
    from hybrid.pipeline.launch import Options

    overrides = {"teacher": {"model": options.teacher}} if options.teacher else {}
    recipe = read_recipe(path, overrides=overrides)
    return written | outcome(launch(recipe, path.parent, Options(runs=options.runs, seeds=options.seeds)))
