"""`python -m hybrid.recipe`: `hybrid run`, `hybrid new` and the names of the recipes, under their former name."""

import argparse
import sys
from collections.abc import Sequence

import hybrid
from hybrid.command_exit import EPILOG, exit_status, take_debug
from hybrid.commands.parsing import act, parser_of, read_words
from hybrid.commands.table import command_named

PROG = "python -m hybrid.recipe"
COMMANDS = {
    "run": "run a recipe from data to bundle; what is finished and unchanged is skipped",
    "new": "write a commented recipe for your own data, then run it",
    "list": "name the recipes that ship with the package",
}
HELP = (
    f"usage: {PROG} [run] RECIPE ...\n\n"
    + "".join(f"  {name:<4}  {purpose}\n" for name, purpose in COMMANDS.items())
    + f"\nThe same as hybrid run and hybrid new. {EPILOG}\n\nexample:\n  {PROG} sentiment\n"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status (`hybrid.command_exit`)."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = take_debug(words)
    if not words or words[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0 if words else 2
    if words[0] == "--version":
        print(f"hybrid-cascade {hybrid.__version__}")
        return 0
    if words[0] not in COMMANDS:
        words.insert(0, "run")
    name, *rest = words
    if name == "list":
        argparse.ArgumentParser(prog=f"{PROG} list", description="Name the recipes that ship.").parse_args(rest)
        return exit_status(_list, debug=debug)
    command = command_named(name)
    assert command is not None, name
    try:
        options = read_words(parser_of(command, f"{PROG} {name}"), rest)
    except SystemExit as done:  # argparse's own: help, or a usage error
        return int(done.code or 0)
    return exit_status(lambda: act(command, options), debug=debug)


def _list() -> None:
    from hybrid.recipe_files.find import shipped_recipes

    for name in shipped_recipes():
        print(name)


if __name__ == "__main__":
    sys.exit(main())
