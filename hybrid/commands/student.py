"""`hybrid student`: fine-tune a small decoder on the teacher's reasons, or compare the layouts."""

import argparse

from hybrid.commands.arguments import add_json, add_recipe, count, names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `hybrid student`."""
    add_recipe(parser)
    parser.add_argument(
        "--compare",
        type=names,
        default=(),
        metavar="LAYOUTS",
        help="train one of each layout, as direct,pre,post, and compare them with the first on the test rows",
    )
    parser.add_argument(
        "--ablate",
        type=names,
        default=(),
        metavar="ALTERATIONS",
        help="train one on reasons as they are and one on each alteration, as shuffled,masked:0.3,padded",
    )
    parser.add_argument(
        "--seeds", type=count, default=1, help="with --compare or --ablate: train each so often (%(default)s)"
    )
    add_json(parser)
    parser.set_defaults(act=_student)


def _student(options: argparse.Namespace) -> object:
    from hybrid.commands.open_run import open_recipe, recipe_arguments
    from hybrid.errors import ConfigError
    from hybrid.pipeline.student_runs import compare_lines, compare_students, of_layouts, of_reasons, train_student

    if options.compare and options.ablate:
        raise ConfigError("student: --compare and --ablate: name one of them; each compares students of its own")
    if options.seeds > 1 and not (options.compare or options.ablate):
        raise ConfigError("student: --seeds without --compare or --ablate: a run has one student; name what to compare")
    with open_recipe(recipe_arguments(options)) as context:
        config = context.recipe.student
        if not (options.compare or options.ablate):
            path = train_student(context)
            context.run.screen.say(f"student: {path}")
            return {"path": str(path)} | context.report("student")
        comparison = of_layouts(config, options.compare) if options.compare else of_reasons(config, options.ablate)
        report = compare_students(context, comparison, options.seeds)
        for line in compare_lines(report):
            context.run.screen.say(line)
        return report
