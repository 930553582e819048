"""The parser of a command, the page of `hybrid --help`, and how a command's result is printed.

argparse and not a larger library, because a service installs the runtime alone. A command's module is imported when the
command is used, and `hybrid --help` imports none.
"""

import argparse
import difflib
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import import_module

from hybrid.command_exit import EPILOG, STATUSES
from hybrid.commands.arguments import ending
from hybrid.commands.table import COMMANDS, GROUPS, Command
from hybrid.errors import ConfigError

OURS = ("hybrid", "serving")


def parser_of(command: Command, prog: str = "") -> argparse.ArgumentParser:
    """Build the parser of one command; `prog` is what its usage line begins with, `hybrid NAME` where empty."""
    parser = argparse.ArgumentParser(prog=prog or f"hybrid {command.name}")
    fill(parser, command)
    return parser


def fill(parser: argparse.ArgumentParser, command: Command) -> None:
    """Give a parser the arguments of a command, and a help that ends with its example."""
    purpose = command.purpose[0].upper() + command.purpose[1:]
    needs = f" It needs hybrid-cascade[{command.extra}]." if command.extra else ""
    parser.description = f"{purpose}.{needs}"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = ending(command.example)
    import_module(command.module).add_arguments(parser)


def read_words(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """Parse the words of a command. Options may stand among the arguments, as in `predict BUNDLE --explain TEXT`."""
    has_steps = any(isinstance(action, argparse._SubParsersAction) for action in parser._actions)
    return parser.parse_args(words) if has_steps else parser.parse_intermixed_args(words)


def act(command: Command, options: argparse.Namespace) -> None:
    """Do what a command is for, and print its result as JSON where that was asked for.

    Raises:
        ConfigError: a package is not installed; the message names the extra that has it.
    """
    try:
        if not getattr(options, "json", False):
            options.act(options)
            return
        with redirect_stdout(sys.stderr):
            result = options.act(options)
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if not command.extra or not package or package in OURS:
            raise
        raise ConfigError(
            f"{command.name}: {package} is not installed; this command needs: "
            f"pip install 'hybrid-cascade[{command.extra}]'"
        ) from error
    import msgspec

    sys.stdout.write(msgspec.json.encode(result).decode() + "\n")


def help_page() -> str:
    """The text of `hybrid --help`: the commands in groups, and the exit statuses."""
    width = max(len(command.name) for command in COMMANDS)
    groups = "\n".join(
        f"{title}:\n" + "".join(f"  {each.name:<{width}}  {each.purpose}\n" for each in COMMANDS if each.group == group)
        for group, title in GROUPS.items()
    )
    statuses = "\n".join(f"  {status:>3}  {meaning}" for status, meaning in STATUSES.items())
    return (
        "usage: hybrid [--help] [--version] [--debug] COMMAND ...\n\n"
        "A language model works on the data, a small encoder serves.\n\n"
        f"{groups}\n"
        "hybrid COMMAND --help shows a command's options, and an example. "
        f"{EPILOG}\n\n"
        f"exit status:\n{statuses}\n\n"
        "example:\n  hybrid run sentiment\n"
    )


def unknown(name: str) -> str:
    """What to say about a word that is no command."""
    close = difflib.get_close_matches(name, [command.name for command in COMMANDS], n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"hybrid: error: no command {name!r}; {hint}hybrid --help lists them\n"
