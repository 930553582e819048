"""`python -m serving BUNDLE`: serve a bundle over HTTP."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import hybrid
from hybrid.command_exit import EPILOG, exit_status, take_debug
from hybrid.errors import ConfigError
from hybrid.overrides import merge, parse_settings
from hybrid.runtime.bundle import Bundle
from serving.settings import Settings, read_settings


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status (`hybrid.command_exit`)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = take_debug(arguments)
    options = _parser().parse_args(arguments)
    return exit_status(lambda: _serve(options.bundle, _settings(options)), debug=debug)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m serving", description="Serve a bundle over HTTP.", epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"hybrid-cascade {hybrid.__version__}")
    parser.add_argument("bundle", type=Path, help="the folder of a bundle, such as runs/sentiment/embedded/bundle")
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
    return parser


def _settings(options: argparse.Namespace) -> Settings:
    address = {"host": options.host, "port": options.port}
    overrides = {key: value for key, value in address.items() if value is not None}
    return read_settings(options.settings, merge(parse_settings(options.set), overrides))


def _serve(folder: Path, settings: Settings) -> None:
    began = time.perf_counter()
    try:
        from serving.server import build, run
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{error.name} is not installed; serving needs: pip install 'hybrid-cascade[serve]'"
        ) from error
    service, app = build(folder, settings)
    bundle, bundle_id = service.bundle, service.bundle_id

    def on_ready(url: str) -> None:
        print(f"{_headline(bundle)}, bundle {bundle_id}, {folder}")
        print(f"ready in {time.perf_counter() - began:.1f} s at {url}", flush=True)

    run(service, app, settings, on_ready=on_ready)


def _headline(bundle: Bundle) -> str:
    labels = ", ".join(bundle.labels[:5]) + (f" and {len(bundle.labels) - 5} more" if len(bundle.labels) > 5 else "")
    return f"serving {bundle.name}: {labels} ({bundle.precision}, escalates below {bundle.threshold.value:.3g})"


if __name__ == "__main__":
    sys.exit(main())
