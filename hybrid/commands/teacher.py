"""The commands around the teacher: policy, pilot, review, why. Each imports what it needs only when it runs."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid.commands.arguments import count, whole
from hybrid.errors import ConfigError, DataError
from hybrid.review.targets import TARGETS

if TYPE_CHECKING:
    from hybrid.commands.open_run import RecipeArguments

Command = Callable[[argparse.Namespace], None]


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the commands to those of `hybrid`."""
    policy = commands.add_parser("policy", help="let the teacher write the labelling policy")
    _add_recipe(policy)
    policy.add_argument("--rows", type=count, default=40, help="rows that the teacher is shown (%(default)s)")
    policy.add_argument("--force", action="store_true", help="replace a policy that is already there")
    policy.set_defaults(act=_needs_train(_policy))

    pilot = commands.add_parser("pilot", help="compare prompt strategies on trusted rows, in accuracy and price")
    _add_recipe(pilot)
    pilot.add_argument("--rows", type=count, default=200, help="trusted rows to compare on, at most (%(default)s)")
    pilot.add_argument(
        "--models", default="", help="models to compare, separated by commas, instead of the recipe's teacher"
    )
    pilot.add_argument(
        "--votes", type=count, default=3, help="votes per row where several are asked for; odd (%(default)s)"
    )
    pilot.set_defaults(act=_needs_train(_pilot))

    review = commands.add_parser("review", help="the rows most worth re-checking: export them, read the answers back")
    steps = review.add_subparsers(required=True, metavar="STEP")
    export = steps.add_parser("export", help="write the rows most worth re-checking")
    _add_run(export)
    export.add_argument("file", type=Path, help="the file to write")
    export.add_argument("--to", choices=tuple(TARGETS), default="csv")
    export.add_argument("--rows", type=count, default=100, help="rows to write (%(default)s)")
    export.add_argument(
        "--random",
        type=whole,
        default=0,
        help="further rows, drawn at random: their answers tell how many labels are right (%(default)s)",
    )
    export.set_defaults(act=_needs_train(_review_export))
    escalations = steps.add_parser("escalations", help="write the texts that escalated in service")
    _add_run(escalations)
    escalations.add_argument("file", type=Path, help="the file to write")
    escalations.add_argument("--store", default="", help="the service's review store: a file, or a database URL")
    escalations.add_argument("--to", choices=tuple(TARGETS), default="csv")
    escalations.add_argument("--rows", type=count, default=100, help="texts to write (%(default)s)")
    escalations.set_defaults(act=_needs_train(_review_escalations))
    read = steps.add_parser("read", help="read answers back as trusted rows")
    _add_run(read)
    read.add_argument("file", type=Path, help="what Label Studio or Argilla exported, or the csv with labels filled in")
    read.add_argument("--store", default="", help="where texts that escalated are kept: a file, or a database URL")
    read.set_defaults(act=_needs_train(_review_read))

    why = commands.add_parser("why", help="the history of a row: votes, prices, decision, weight")
    _add_run(why)
    why.add_argument(
        "row_id", nargs="?", default="", help="the id of a row or of a draft, or a place such as rows.csv:17"
    )
    why.add_argument("--all", type=Path, metavar="FILE", help="write the history of every row to a JSONL file")
    why.set_defaults(act=_needs_train(_why))


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="a shipped recipe's name, a folder, or the path of a recipe.toml")
    parser.add_argument("--profile", default="", help="a profile of the recipe")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="the folder of the runs (%(default)s)")
    parser.add_argument("--name", default="", help="the name of the run's folder, as for hybrid.recipe")
    parser.add_argument("--teacher", default="", help="local, a .gguf file, or claude-...; instead of the recipe's")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one setting; may repeat")


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, help="the folder of a run, such as runs/sentiment/embedded")


def _needs_train(act: Command) -> Command:
    def guarded(options: argparse.Namespace) -> None:
        try:
            act(options)
        except ImportError as error:
            raise ConfigError(f"{error.name} is not installed; this command needs hybrid-cascade[train]") from error

    return guarded


def _recipe_arguments(options: argparse.Namespace) -> "RecipeArguments":
    from hybrid.commands.open_run import RecipeArguments

    return RecipeArguments(
        recipe=options.recipe,
        profile=options.profile,
        runs=options.runs,
        name=options.name,
        teacher=options.teacher,
        settings=tuple(options.set),
    )


def _policy(options: argparse.Namespace) -> None:
    from hybrid.commands.open_run import open_recipe, teacher_inputs
    from hybrid.teacher.policy import policy_lines, write_policy

    with open_recipe(_recipe_arguments(options)) as context:
        receipt = write_policy(teacher_inputs(context), n_rows=options.rows, force=options.force)
        for line in policy_lines(receipt, named=bool(context.recipe.teacher.policy)):
            context.run.screen.say(line)


def _pilot(options: argparse.Namespace) -> None:
    from hybrid.commands.open_run import open_recipe, teacher_inputs
    from hybrid.teacher.pilot.compare import pilot
    from hybrid.teacher.pilot.table import print_pilot

    models = tuple(name.strip() for name in options.models.split(",") if name.strip())
    with open_recipe(_recipe_arguments(options)) as context:
        piloted = pilot(
            teacher_inputs(context),
            policy=context.policy(context.recipe.teacher),
            n_rows=options.rows,
            screen=context.run.screen,
            models=models,
            votes=options.votes,
        )
        print_pilot(piloted, context.run.screen)


def _review_export(options: argparse.Namespace) -> None:
    from hybrid.commands.open_run import open_run
    from hybrid.review.export import export

    context = open_run(options.run)
    for line in export(context, options.file, to=options.to, n_rows=options.rows, n_random=options.random):
        context.run.screen.say(line)


def _review_escalations(options: argparse.Namespace) -> None:
    from hybrid.commands.open_run import open_run
    from hybrid.review.escalated import export_escalations

    context = open_run(options.run)
    lines = export_escalations(context, options.store, options.file, to=options.to, n_rows=options.rows)
    for line in lines:
        context.run.screen.say(line)


def _review_read(options: argparse.Namespace) -> None:
    from hybrid.commands.open_run import open_run
    from hybrid.review.import_answers import read

    context = open_run(options.run)
    for line in read(context, options.file, store=options.store):
        context.run.screen.say(line)


def _why(options: argparse.Namespace) -> None:
    from hybrid.commands.open_run import open_run
    from hybrid.files.table import write_rows
    from hybrid.provenance.build import read_receipts, receipt_of
    from hybrid.report.row_history import row_history_lines

    if bool(options.row_id) == bool(options.all):
        raise DataError("why: expected exactly one of the id of a row and --all FILE")
    context = open_run(options.run)
    receipts = read_receipts(context)
    if options.all:
        write_rows(options.all, receipts)
        context.run.screen.say(f"{len(receipts)} receipts written to {options.all}")
        return
    for line in row_history_lines(receipt_of(receipts, options.row_id, options.run)):
        context.run.screen.say(line)
