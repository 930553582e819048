"""`hybrid policy`: let the teacher write the labelling policy."""

import argparse

from hybrid.commands.arguments import add_json, add_recipe, count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `hybrid policy`."""
    add_recipe(parser)
    parser.add_argument("--rows", type=count, default=40, help="rows that the teacher is shown (%(default)s)")
    parser.add_argument("--force", action="store_true", help="replace a policy that is already there")
    add_json(parser)
    parser.set_defaults(act=_policy)


def _policy(options: argparse.Namespace) -> object:
    from hybrid.commands.open_run import open_recipe, recipe_arguments, teacher_inputs
    from hybrid.teacher.policy import policy_lines, write_policy

    with open_recipe(recipe_arguments(options)) as context:
        receipt = write_policy(teacher_inputs(context), n_rows=options.rows, force=options.force)
        for line in policy_lines(receipt, named=bool(context.recipe.teacher.policy)):
            context.run.screen.say(line)
    return receipt
