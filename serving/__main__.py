"""`python -m serving BUNDLE`: serve a bundle over HTTP."""

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hybrid.runtime.bundle import Bundle
    from serving.settings import Settings

STOPPED_BY_SIGINT = 130
"""The exit status after Ctrl-C (`hybrid.command_exit`)."""


def end_at_signals() -> None:
    """End at once and without a word at SIGTERM or SIGINT, until the service handles them: nothing was accepted yet.

    Python's own action for SIGINT is an exception wherever it arrives, which may be in the middle of an import.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _end)


def _end(number: int, frame: FrameType | None) -> None:
    del frame
    os._exit(STOPPED_BY_SIGINT if number == signal.SIGINT else 0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status (`hybrid.command_exit`)."""
    from hybrid.command_exit import exit_status, take_debug

    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = take_debug(arguments)
    options = _parser().parse_args(arguments)
    return exit_status(lambda: serve(options), debug=debug)


def _parser() -> argparse.ArgumentParser:
    import hybrid
    from hybrid.command_exit import EPILOG

    parser = argparse.ArgumentParser(prog="python -m serving", description="Serve a bundle over HTTP.", epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"hybrid-cascade {hybrid.__version__}")
    add_serving_arguments(parser)
    return parser


def add_serving_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the service, for `python -m serving` and `hybrid serve` alike."""
    parser.add_argument(
        "bundle", help="the folder of a bundle, such as runs/sentiment/embedded/bundle; or demo, the one that ships"
    )
    parser.add_argument("--settings", type=Path, help="a TOML file with settings")
    parser.add_argument("--host", help="the address to listen on; default: 127.0.0.1")
    parser.add_argument("--port", type=int, help="the port to listen on; default: 8000, and 0 picks any free port")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a setting, such as limits.items=64; may be repeated",
    )


def serve(options: argparse.Namespace) -> None:
    """Serve a bundle until a signal ends it.

    Raises:
        HybridError: anything that the user can mend.
    """
    from hybrid.runtime.bundle import bundle_path

    _serve(bundle_path(options.bundle), _settings(options))


def _settings(options: argparse.Namespace) -> "Settings":
    from hybrid.overrides import merge, parse_settings
    from serving.settings import read_settings

    address = {"host": options.host, "port": options.port}
    overrides = {key: value for key, value in address.items() if value is not None}
    return read_settings(options.settings, merge(parse_settings(options.set), overrides))


def _serve(folder: Path, settings: "Settings") -> None:
    began = time.perf_counter()
    try:
        from serving.server import build, run
    except ModuleNotFoundError as error:
        from hybrid.errors import ConfigError

        raise ConfigError(
            f"{error.name} is not installed; serving needs: pip install 'hybrid-cascade[serve]'"
        ) from error
    service, app = build(folder, settings)

    def on_ready(url: str) -> None:
        # Only now is it known which graph of a portable bundle answers, and what an engine computes in.
        computes = f"{service.precision}{_by(service.engine)}"
        print(f"{_headline(service.bundle, computes)}, bundle {service.bundle_id}, {folder}")
        print(f"ready in {time.perf_counter() - began:.1f} s at {url}", flush=True)

    run(service, app, settings, on_ready=on_ready)


def _by(engine: str) -> str:
    """Name an engine that is not the one that runs where nothing is said."""
    from hybrid.runtime.engines import DEFAULT_ENGINE

    return "" if engine == DEFAULT_ENGINE else f" by {engine}"


def _headline(bundle: "Bundle", computes: str = "") -> str:
    from hybrid.runtime.calibration import NOTHING_KEPT

    labels = ", ".join(bundle.labels[:5]) + (f" and {len(bundle.labels) - 5} more" if len(bundle.labels) > 5 else "")
    threshold = bundle.threshold.value
    escalates = "every text escalates" if threshold == NOTHING_KEPT else f"escalates below {threshold!r}"
    return f"serving {bundle.name}: {labels} ({computes or bundle.precision}, {escalates})"


if __name__ == "__main__":
    end_at_signals()
    sys.exit(main())
