"""`hybrid bundle`: the bundle of a finished run at another precision, or a portable one."""

import argparse
from pathlib import Path

from hybrid.commands.arguments import add_json, add_run
from hybrid.precisions import PRECISIONS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `hybrid bundle`."""
    add_run(parser)
    parser.add_argument("target", type=Path, help="the folder to write; it must not exist")
    parser.add_argument(
        "--precision", choices=list(PRECISIONS), default="fp32", help="the precision of the weights (%(default)s)"
    )
    parser.add_argument(
        "--portable",
        action="store_true",
        help="the served graph, and the fp32 graph for machines on which that computes something else",
    )
    add_json(parser)
    parser.set_defaults(act=_bundle)


def _bundle(options: argparse.Namespace) -> object:
    from hybrid.commands.info import show
    from hybrid.pipeline.requantize import make_portable, requantize

    if options.portable:
        make_portable(options.run, options.target)
    else:
        requantize(options.run, options.target, options.precision)
    return show(options.target)
