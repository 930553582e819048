"""`hybrid pilot`: compare ways of asking the teacher on trusted rows."""

import argparse

from hybrid.commands.arguments import add_json, add_recipe, count, names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `hybrid pilot`."""
    add_recipe(parser)
    parser.add_argument("--rows", type=count, default=200, help="trusted rows to compare on, at most (%(default)s)")
    parser.add_argument(
        "--models",
        type=names,
        default=(),
        help="models to compare, separated by commas, instead of the recipe's teacher",
    )
    parser.add_argument(
        "--votes", type=count, default=3, help="votes per row where several are asked for; odd (%(default)s)"
    )
    add_json(parser)
    parser.set_defaults(act=_pilot)


def _pilot(options: argparse.Namespace) -> object:
    from hybrid.commands.open_run import open_recipe, recipe_arguments, teacher_inputs
    from hybrid.teacher.pilot.compare import pilot
    from hybrid.teacher.pilot.table import print_pilot

    with open_recipe(recipe_arguments(options)) as context:
        piloted = pilot(
            teacher_inputs(context),
            policy=context.policy(context.recipe.teacher),
            n_rows=options.rows,
            screen=context.run.screen,
            models=options.models,
            votes=options.votes,
        )
        print_pilot(piloted, context.run.screen)
    return piloted
