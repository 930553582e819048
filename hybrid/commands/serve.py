"""`hybrid serve`: what `python -m serving` does, with the same options."""

import argparse

from serving.__main__ import add_serving_arguments, end_at_signals, serve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the service."""
    add_serving_arguments(parser)
    parser.set_defaults(act=_serve)


def _serve(options: argparse.Namespace) -> None:
    end_at_signals()
    serve(options)
