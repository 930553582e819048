"""`hybrid`, also as `python -m hybrid`: the command line of everything that is here."""

import sys
from collections.abc import Sequence

import hybrid
from hybrid.command_exit import exit_status, take_debug
from hybrid.commands.parsing import act, help_page, parser_of, read_words, unknown
from hybrid.commands.table import command_named


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status (`hybrid.command_exit`)."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = take_debug(words)
    if not words:
        sys.stderr.write(f"{help_page()}\nhybrid: error: expected a command\n")
        return 2
    name, *rest = words
    if name in ("-h", "--help"):
        print(help_page(), end="")
        return 0
    if name == "--version":
        print(f"hybrid-cascade {hybrid.__version__}")
        return 0
    command = command_named(name)
    if command is None:
        sys.stderr.write(unknown(name))
        return 2
    options = read_words(parser_of(command), rest)
    return exit_status(lambda: act(command, options), debug=debug)


if __name__ == "__main__":
    sys.exit(main())
