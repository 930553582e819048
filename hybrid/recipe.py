"""`python -m hybrid.recipe`: run a recipe, or write a new one and run it."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from hybrid.command_exit import EPILOG, STOPPED, exit_status, take_debug
from hybrid.overrides import parse_settings as parse_settings

if TYPE_CHECKING:
    from hybrid.config import Recipe
    from hybrid.pipeline.launch import Options

COMMANDS = ("run", "new", "list", "--help", "-h", "--version")

try:
    import typer
except ModuleNotFoundError:  # the runtime alone is installed
    print(
        "error: running a recipe needs more than the runtime; install it with: pip install 'hybrid-cascade[train]'",
        file=sys.stderr,
    )
    sys.exit(2)

app = typer.Typer(
    add_completion=False, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False, epilog=EPILOG
)
Runs = Annotated[Path, typer.Option(help="The folder that runs are written to.")]
Profile = Annotated[str, typer.Option(help="A profile of the recipe, such as embedded or deberta.")]
Teacher = Annotated[
    str, typer.Option(help="recorded, local, a .gguf file, claude-..., or none; instead of the recipe's.")
]
Settings = Annotated[list[str] | None, typer.Option("--set", help="One setting, as train.epochs=6; may repeat.")]
Seeds = Annotated[int, typer.Option(min=1, help="Repeat everything with this many seeds and report mean and spread.")]


@app.command()
def run(
    recipe: Annotated[str, typer.Argument(help="A shipped recipe's name, a folder, or the path of a recipe.toml.")],
    profile: Profile = "",
    runs: Runs = Path("runs"),
    name: Annotated[
        str, typer.Option(help="The name of the run's folder; the profile's name where none is given.")
    ] = "",
    teacher: Teacher = "",
    decoder: Annotated[str, typer.Option(help="The same for the model that escalated texts go to.")] = "",
    audit: Annotated[
        Path | None,
        typer.Option(help="A csv or jsonl file of text,label or id,label: training rows that a person has checked."),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the recipe's.")] = None,
    seeds: Seeds = 1,
    ablate: Annotated[bool, typer.Option(help="Also train on labels as given, with drafts, and on gold.")] = False,
    setting: Settings = None,
    estimate: Annotated[
        bool, typer.Option(help="Say what the language models would be asked and what it costs; spend nothing.")
    ] = False,
) -> None:
    """Run a recipe from data to bundle. What is finished and unchanged is skipped."""
    from hybrid.pipeline.launch import Options
    from hybrid.recipe_files.find import find_recipe
    from hybrid.recipe_files.read import read_recipe

    overrides = parse_settings(setting or [])
    for section, model in (("teacher", teacher), ("decoder", decoder)):
        if model:
            overrides.setdefault(section, {})["model"] = model
    if audit is not None:
        # From where the command is given, not from the recipe's folder.
        overrides.setdefault("data", {})["audit"] = str(audit.resolve())
    if seed is not None:
        overrides["seed"] = seed
    path = find_recipe(recipe)
    read = read_recipe(path, profile=profile, overrides=overrides)
    options = Options(runs=runs, name=name, seeds=seeds, ablate=ablate)
    if estimate:
        from hybrid.commands.run import forecast

        forecast(read, path.parent, options)
        return
    _launch(read, path.parent, options)


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="The name of the recipe, and of its folder under --folder.")],
    data: Annotated[str, typer.Option(help="csv, tsv, jsonl, parquet or xlsx, or hf:owner/name: the rows.")],
    text: Annotated[str, typer.Option(help="The column of the texts.")],
    label: Annotated[str, typer.Option(help="The column of the given labels.")] = "",
    gold: Annotated[str, typer.Option(help="A column of trusted labels; may be empty on some rows.")] = "",
    id_: Annotated[str, typer.Option("--id", help="A column that names each row.")] = "",
    annotators: Annotated[str, typer.Option(help="Columns of single annotators, with commas.")] = "",
    test: Annotated[str, typer.Option(help="A file of test rows, where the data is split already.")] = "",
    split: Annotated[str, typer.Option(help="A column that says train, calibration or test.")] = "",
    folder: Annotated[Path, typer.Option(help="Where the recipe's folder is made.")] = Path("recipes"),
    runs: Runs = Path("runs"),
    teacher: Teacher = "",
    seeds: Seeds = 1,
    setting: Settings = None,
    write_only: Annotated[bool, typer.Option(help="Write the recipe and stop.")] = False,
) -> None:
    """Write a commented recipe for your own data, then run it."""
    from hybrid.pipeline.launch import Options
    from hybrid.recipe_files.read import read_recipe
    from hybrid.recipe_files.scaffold import new_recipe

    path = new_recipe(
        name,
        data=data,
        text=text,
        label=label,
        gold=gold,
        id=id_,
        annotators=tuple(part.strip() for part in annotators.split(",") if part.strip()),
        test=test,
        split=split,
        settings=parse_settings(setting or []),
        folder=folder / name,
    )
    print(f"recipe: {path}")
    if write_only:
        return
    overrides = {"teacher": {"model": teacher}} if teacher else {}
    _launch(read_recipe(path, overrides=overrides), path.parent, Options(runs=runs, seeds=seeds))


@app.command("list")
def list_() -> None:
    """Name the recipes that ship with the package."""
    from hybrid.recipe_files.find import shipped_recipes

    for name in shipped_recipes():
        print(name)


def _launch(recipe: "Recipe", recipe_dir: Path, options: "Options") -> None:
    from hybrid.commands.run import launch

    try:
        launch(recipe, recipe_dir, options)
    except KeyboardInterrupt:  # caught here, because typer would say "Aborted"
        sys.stderr.write(STOPPED)
        raise typer.Exit(130) from None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status (`hybrid.command_exit`)."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = take_debug(words)
    if words and words[0] not in COMMANDS:
        words.insert(0, "run")
    try:
        return exit_status(lambda: app(words, prog_name="python -m hybrid.recipe"), debug=debug)
    except SystemExit as done:  # typer's own: help, a usage error, or a command that ended
        return int(done.code or 0)


if __name__ == "__main__":
    sys.exit(main())
