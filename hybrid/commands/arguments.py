"""What the arguments of several commands share: types that refuse a wrong sign or range, and options of one wording."""

import argparse
from pathlib import Path

from hybrid.command_exit import EPILOG


def count(text: str) -> int:
    """Read a number of rows, votes or the like: 1 or more."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected 1 or more, got {text}")
    return number


def whole(text: str) -> int:
    """Read a number of further rows: 0 or more."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"expected 0 or more, got {text}")
    return number


def share(text: str) -> float:
    """Read a probability, from 0 to 1."""
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"expected a probability, from 0 to 1, got {text}")
    return number


def names(text: str) -> tuple[str, ...]:
    """Read names that are separated by commas."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def ending(example: str) -> str:
    """How the help of a command or of a step of it ends."""
    return f"{EPILOG}\n\nexample:\n  {example}"


def add_step(
    steps: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, purpose: str, example: str
) -> argparse.ArgumentParser:
    """Add the parser of one step of a command."""
    return steps.add_parser(
        name,
        help=purpose,
        description=f"{purpose[0].upper()}{purpose[1:]}.",
        epilog=ending(example),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the library that runs the encoder."""
    # Imported here: `hybrid --help` needs none of it.
    from hybrid.runtime.engines import DEFAULT_ENGINE, ENGINES

    parser.add_argument(
        "--engine-backend",
        choices=list(ENGINES),
        default=DEFAULT_ENGINE,
        help="the library that runs the encoder; all but the first run the fp32 graph of a bundle (%(default)s)",
    )


def add_bundle(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names a bundle."""
    parser.add_argument(
        "bundle", help="the folder of a bundle, such as runs/sentiment/embedded/bundle; or demo, the one that ships"
    )


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names a run."""
    parser.add_argument("run", type=Path, help="the folder of a run, such as runs/sentiment/embedded")


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`: the command's result as one JSON object, and all other lines on standard error."""
    parser.add_argument("--json", action="store_true", help="print one JSON object; other lines go to standard error")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add `--set KEY=VALUE`."""
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="one setting, as train.epochs=6; may repeat"
    )


def add_runs(parser: argparse.ArgumentParser) -> None:
    """Add `--runs`."""
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="the folder of the runs (%(default)s)")


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that select a recipe and its run folder, for the commands that try out a teacher."""
    parser.add_argument("recipe", help="a shipped recipe's name, a folder, or the path of a recipe.toml")
    parser.add_argument("--profile", default="", help="a profile of the recipe")
    add_runs(parser)
    parser.add_argument("--name", default="", help="the name of the run's folder, as for hybrid run")
    parser.add_argument("--teacher", default="", help="local, a .gguf file, or claude-...; instead of the recipe's")
    add_settings(parser)


def add_data_columns(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which columns of a data set mean what."""
    parser.add_argument("--label", default="", help="the column of the given labels")
    parser.add_argument("--gold", default="", help="a column of trusted labels; may be empty on some rows")
    parser.add_argument("--id", default="", help="a column that names each row")
    parser.add_argument(
        "--annotators", type=names, default=(), help="columns of single annotators, separated by commas"
    )
    parser.add_argument("--test", default="", help="a file of test rows, where the data is split already")
    parser.add_argument("--split", default="", help="a column that says train, calibration or test")
