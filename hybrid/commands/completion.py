"""`hybrid completion`: the script with which a shell completes the words of `hybrid`."""

import argparse
from pathlib import Path

from hybrid.commands.parsing import fill
from hybrid.commands.table import COMMANDS

SHELLS = ("bash", "zsh", "fish")
WHERE = {
    "bash": 'eval "$(hybrid completion bash)" in ~/.bashrc',
    "zsh": "hybrid completion zsh > a file _hybrid in a folder of $fpath",
    "fish": "hybrid completion fish > ~/.config/fish/completions/hybrid.fish",
}
"""How the script of each shell is put to use."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `hybrid completion`."""
    places = "; ".join(f"{shell}: {place}" for shell, place in WHERE.items())
    parser.add_argument("shell", choices=SHELLS, help=f"the shell ({places})")
    parser.set_defaults(act=_completion)


def _completion(options: argparse.Namespace) -> None:
    import shtab

    print(shtab.complete(whole_parser(), options.shell))


def whole_parser() -> argparse.ArgumentParser:
    """One parser with every command, as the completion of a shell wants it. Arguments that are paths complete as files."""
    import shtab

    parser = argparse.ArgumentParser(prog="hybrid")
    commands = parser.add_subparsers(metavar="COMMAND")
    for command in COMMANDS:
        fill(commands.add_parser(command.name, help=command.purpose), command)
    for each in _parsers(parser):
        for action in each._actions:
            if action.type is Path or action.dest in ("bundle", "recipe", "data"):
                action.complete = shtab.FILE  # type: ignore[attr-defined]  # how shtab is told
    return parser


def _parsers(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """A parser and all parsers of its subcommands."""
    inner = [
        below
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for below in action.choices.values()
    ]
    return [parser, *(each for below in inner for each in _parsers(below))]
