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
    parser.add_argument("--seeds", type=count, default=1, help="with --compare: train each so often (%(default)s)")
    add_json(parser)
    parser.set_defaults(act=_student)


def _student(options: argparse.Namespace) -> object:
    from hybrid.commands.open_run import open_recipe, recipe_arguments
    from hybrid.errors import ConfigError
    from hybrid.llm.student.layouts import LAYOUTS
    from hybrid.pipeline.student_runs import compare_layouts, compare_lines, train_student

    if unknown := [name for name in options.compare if name not in LAYOUTS]:
        raise ConfigError(f"student: --compare {unknown[0]}: no such layout; expected some of {', '.join(LAYOUTS)}")
    if options.seeds > 1 and not options.compare:
        raise ConfigError("student: --seeds without --compare: a run has one student; name the layouts to compare")
    with open_recipe(recipe_arguments(options)) as context:
        if not options.compare:
            path = train_student(context)
            context.run.screen.say(f"student: {path}")
            return {"path": str(path)} | context.report("student")
        report = compare_layouts(context, options.compare, options.seeds)
        for line in compare_lines(report):
            context.run.screen.say(line)
        return report
