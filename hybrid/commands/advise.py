"""`hybrid advise`: what kind of model a data set calls for, by measurement."""

import argparse
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid.commands.arguments import add_data_columns, add_json, add_runs, add_settings, count
from hybrid.commands.run_arguments import TEACHER
from hybrid.errors import ConfigError

if TYPE_CHECKING:
    from hybrid.advise.advice import Advice
    from hybrid.config import Recipe
    from hybrid.progress import Screen

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s)")
_MS = {"ms": 1.0, "s": 1000.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `hybrid advise`."""
    parser.add_argument(
        "data", help="csv, tsv, jsonl, parquet or xlsx, hf:owner/name, or a recipe: the rows to look at"
    )
    parser.add_argument("--text", default="text", help="the column of the texts (%(default)s)")
    add_data_columns(parser)
    parser.add_argument("--explain", action="store_true", help="every answer must come with its reasons in words")
    parser.add_argument(
        "--p95", type=duration_ms, metavar="TIME", help="the time in which 95 %% of answers must come, as 50ms"
    )
    parser.add_argument("--per-day", type=positive, metavar="N", help="texts a day, as 1e6")
    parser.add_argument("--teacher", default="", help=TEACHER)
    parser.add_argument(
        "--budget",
        type=positive,
        metavar="USD",
        help="what asking the teacher may cost; without it a paid one is not asked",
    )
    parser.add_argument(
        "--pilot-rows", type=count, default=200, help="trusted rows that the teacher is asked about (%(default)s)"
    )
    parser.add_argument("--rows", type=count, default=0, help="training rows that are measured, at most (4000)")
    parser.add_argument("--core-usd-hour", type=positive, help="what a processor core costs an hour (0.05)")
    parser.add_argument(
        "--name", default="", help="the name of the recipe that is written; that of the file where none is given"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("recipes"), help="where the recipe's folder is made (%(default)s)"
    )
    parser.add_argument("--profile", default="", help="a profile, where the data is that of a recipe")
    add_runs(parser)
    add_settings(parser)
    add_json(parser)
    parser.set_defaults(act=_advise)


def duration_ms(text: str) -> float:
    """Read a time such as 50ms or 1.5s, in milliseconds."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"expected a time such as 50ms or 1.5s, got {text}")
    return float(match[1]) * _MS[match[2]]


def positive(text: str) -> float:
    """Read a number above 0."""
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return number


def _advise(options: argparse.Namespace) -> object:
    from hybrid.advise.advice import FILE, FOLDER
    from hybrid.advise.render import advice_lines
    from hybrid.progress import Screen
    from hybrid.recipe_files.find import find_recipe
    from hybrid.recipe_files.read import read_recipe

    screen = Screen()
    if _is_recipe(options.data):
        path = find_recipe(options.data)
        recipe = read_recipe(path, profile=options.profile, overrides=_settings(options))
        advice = _measured(recipe, path.parent, options, screen)
        lines = [f"recipe: {path}, as it is"]
        command = f"hybrid run {options.data}"
    else:
        with tempfile.TemporaryDirectory(prefix="hybrid-advise-") as scratch:
            path = _scaffold(options, Path(scratch), _settings(options))
            recipe = _located(read_recipe(path), path.parent)
        recipe_dir = options.folder / recipe.name
        advice = _measured(recipe, recipe_dir, options, screen)
        lines, command = _written(advice, recipe, recipe_dir, options)
    advice = _with_recipe(advice, lines, command, options.runs / recipe.name / FOLDER / FILE)
    for line in [*advice_lines(advice), *lines, *([f"to run it: {command}"] if advice.run else [])]:
        screen.say(line)
    screen.say(f"all figures are in {options.runs / recipe.name / FOLDER / FILE}")
    return advice


def _is_recipe(data: str) -> bool:
    from hybrid.recipe_files.find import shipped_recipes

    path = Path(data).expanduser()
    return (
        (path / "recipe.toml").is_file() or path.suffix == ".toml" or (data in shipped_recipes() and not path.exists())
    )


def _settings(options: argparse.Namespace) -> dict[str, object]:
    from hybrid.overrides import merge, parse_settings

    teacher = {"teacher": {"model": options.teacher}} if options.teacher else {}
    return merge(parse_settings(options.set), teacher)


def _scaffold(options: argparse.Namespace, folder: Path, settings: dict[str, object]) -> Path:
    from hybrid.recipe_files.scaffold import new_recipe

    if not options.label and not options.annotators:
        raise ConfigError(f"advise {options.data}: name the column of the given labels with --label")
    name = options.name or re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(options.data).stem).strip("-.") or "data"
    return new_recipe(
        name,
        data=options.data,
        text=options.text,
        label=options.label,
        gold=options.gold,
        id=options.id,
        annotators=options.annotators,
        test=options.test,
        split=options.split,
        settings=settings,
        folder=folder / name,
    )


def _located(recipe: "Recipe", folder: Path) -> "Recipe":
    """The recipe with its files at absolute paths; those of its language models count from where it will be written."""
    import msgspec

    from hybrid.hub import is_hub

    files = {name: getattr(recipe.data, name) for name in ("train", "test")}
    located = {name: str((folder / ref).resolve()) for name, ref in files.items() if ref and not is_hub(ref)}
    return msgspec.structs.replace(recipe, data=msgspec.structs.replace(recipe.data, **located))


def _measured(recipe: "Recipe", recipe_dir: Path, options: argparse.Namespace, screen: "Screen") -> "Advice":
    from hybrid.advise.advice import Effort, advise
    from hybrid.advise.measurements import Wishes
    from hybrid.advise.thresholds import CORE_USD_PER_HOUR, MOST_ROWS

    return advise(
        recipe,
        recipe_dir,
        options.runs,
        Wishes(explain=options.explain, p95_ms=options.p95, per_day=options.per_day),
        Effort(
            most_rows=options.rows or MOST_ROWS,
            pilot_rows=options.pilot_rows,
            budget_usd=options.budget,
            core_usd_hour=options.core_usd_hour or CORE_USD_PER_HOUR,
        ),
        screen,
    )


def _written(
    advice: "Advice", recipe: "Recipe", recipe_dir: Path, options: argparse.Namespace
) -> tuple[list[str], str]:
    """Write the recipe to run; return the lines that say so and the command, which is empty where nothing should run."""
    from hybrid.advise.advice import examples_by_label
    from hybrid.advise.to_run import EXAMPLES_A_LABEL, POLICY, policy_of, settings_of
    from hybrid.files.table import write_bytes
    from hybrid.overrides import merge

    if advice.decision.verdict == "not_yet":
        return ["no recipe is written: there is nothing to run yet"], ""
    target = options.folder / recipe.name / "recipe.toml"
    command = f"hybrid run {target.parent}"
    if target.exists():
        return [f"recipe: {target} is there already and stays as it is; write another with --name"], command
    lines = []
    if advice.decision.verdict == "llm_with_examples":
        examples = examples_by_label(recipe, recipe_dir, EXAMPLES_A_LABEL)
        write_bytes(target.with_name(POLICY), policy_of(examples).encode())
        lines = [f"examples for the prompt: {target.with_name(POLICY)}; complete them with your rules"]
    path = _scaffold(options, options.folder, merge(_settings(options), settings_of(advice, recipe.teacher)))
    return [f"recipe: {path}", *lines], command


def _with_recipe(advice: "Advice", lines: list[str], command: str, path: Path) -> "Advice":
    """The advice with the recipe and the command that runs it, written again."""
    import msgspec

    from hybrid.files.table import write_json

    recipe = lines[0].removeprefix("recipe: ").partition(",")[0].partition(" is there")[0] if command else ""
    complete = msgspec.structs.replace(advice, recipe=recipe, run=command)
    write_json(path, complete)
    return complete
