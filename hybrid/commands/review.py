"""`hybrid review`: the rows most worth re-checking by a person, written out, and their answers read back."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import to_builtins

from hybrid.commands.arguments import add_json, add_run, add_step, count, whole
from hybrid.review.targets import TARGETS

if TYPE_CHECKING:
    from hybrid.pipeline.context import RunContext
    from hybrid.review.answers import Exported, ReadBack


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the steps of `hybrid review`."""
    steps = parser.add_subparsers(required=True, metavar="STEP")
    export = add_step(
        steps,
        "export",
        "write the rows most worth re-checking",
        "hybrid review export runs/sentiment/embedded looks.csv --rows 20",
    )
    add_run(export)
    export.add_argument("file", type=Path, help="the file to write")
    export.add_argument("--to", choices=tuple(TARGETS), default="csv", help="the tool that reads it (%(default)s)")
    export.add_argument("--rows", type=count, default=100, help="rows to write (%(default)s)")
    export.add_argument(
        "--random",
        type=whole,
        default=0,
        help="further rows, drawn at random: their answers tell how many labels are right (%(default)s)",
    )
    add_json(export)
    export.set_defaults(act=_export)
    escalations = add_step(
        steps,
        "escalations",
        "write the texts that escalated in service",
        "hybrid review escalations runs/sentiment/embedded looks.csv",
    )
    add_run(escalations)
    escalations.add_argument("file", type=Path, help="the file to write")
    escalations.add_argument("--store", default="", help="the service's review store: a file, or a database URL")
    escalations.add_argument("--to", choices=tuple(TARGETS), default="csv", help="the tool that reads it (%(default)s)")
    escalations.add_argument("--rows", type=count, default=100, help="texts to write (%(default)s)")
    add_json(escalations)
    escalations.set_defaults(act=_escalations)
    read = add_step(
        steps, "read", "read answers back as trusted rows", "hybrid review read runs/sentiment/embedded looks.csv"
    )
    add_run(read)
    read.add_argument("file", type=Path, help="what Label Studio or Argilla exported, or the csv with labels filled in")
    read.add_argument("--store", default="", help="where texts that escalated are kept: a file, or a database URL")
    add_json(read)
    read.set_defaults(act=_read)


def _export(options: argparse.Namespace) -> object:
    from hybrid.review.export import export

    context = _context(options)
    return _say(export(context, options.file, to=options.to, n_rows=options.rows, n_random=options.random), context)


def _escalations(options: argparse.Namespace) -> object:
    from hybrid.review.escalated import export_escalations

    context = _context(options)
    return _say(export_escalations(context, options.store, options.file, to=options.to, n_rows=options.rows), context)


def _read(options: argparse.Namespace) -> object:
    from hybrid.review.import_answers import read

    context = _context(options)
    return _say(read(context, options.file, store=options.store), context)


def _context(options: argparse.Namespace) -> "RunContext":
    from hybrid.commands.open_run import open_run

    return open_run(options.run)


def _say(outcome: "Exported | ReadBack", context: "RunContext") -> object:
    """Print what was done; return it as `--json` prints it, without the lines."""
    for line in outcome.lines:
        context.run.screen.say(line)
    return {name: value for name, value in to_builtins(outcome).items() if name != "lines"}
