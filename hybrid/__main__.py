"""`python -m hybrid`: use a bundle, inspect it, and inspect the work of the teacher.

This uses argparse and not typer, because a service installs the runtime alone.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

import hybrid
from hybrid.command_exit import EPILOG, exit_status, take_debug
from hybrid.commands.arguments import share
from hybrid.commands.doctor import add_doctor
from hybrid.commands.teacher import add_commands
from hybrid.commands.traces import add_traces
from hybrid.errors import ConfigError, DataError
from hybrid.files.formats import FORMATS, is_table
from hybrid.files.formats.lines import INVISIBLE, not_utf8, read_lines, split_file
from hybrid.precisions import PRECISIONS
from hybrid.runtime.bundle import MODEL, read_bundle
from hybrid.runtime.made_with import other_versions
from hybrid.runtime.promises import promise_lines, threshold_line
from hybrid.runtime.text_encoder import TextLimits
from hybrid.scoring.command import add_score
from hybrid.scoring.rows import read_texts

TEXTS_A_CALL = 256
"""The most texts that are read before they are classified together."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status (`hybrid.command_exit`)."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = take_debug(words)
    options = _parser().parse_args(words)
    return exit_status(lambda: options.act(options), debug=debug)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="hybrid",
        description="Classify texts with a bundle, inspect it, and inspect the work of the teacher.",
        epilog=EPILOG,
    )
    parser.add_argument("--version", action="version", version=f"hybrid-cascade {hybrid.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    predict = commands.add_parser("predict", help="classify texts; writes one JSON object per line")
    predict.add_argument("bundle", type=Path, help="the folder of the bundle")
    predict.add_argument("texts", nargs="*", help="the texts; without any, each line of standard input is one")
    predict.add_argument(
        "--file", type=Path, help=f"a file of texts: {', '.join(FORMATS)}, or any other name for one text per line"
    )
    predict.add_argument("--text", default="text", metavar="COLUMN", help="the column of the texts (%(default)s)")
    predict.add_argument(
        "--threshold", type=share, help="escalate below this confidence (default: the bundle's threshold)"
    )
    predict.add_argument("--explain", action="store_true", help="add how much each word contributes to the answer")
    predict.set_defaults(act=_predict)
    info = commands.add_parser("info", help="show a bundle's labels, encoder, calibration, threshold and hashes")
    info.add_argument("bundle", type=Path, help="the folder of the bundle")
    info.set_defaults(act=_info)
    bundle = commands.add_parser("bundle", help="write the bundle of a finished run at another precision")
    bundle.add_argument("run", type=Path, help="the folder of the run, such as runs/sentiment/embedded")
    bundle.add_argument("target", type=Path, help="the folder to write; it must not exist")
    bundle.add_argument(
        "--precision", choices=list(PRECISIONS), default="fp32", help="the precision of the weights (%(default)s)"
    )
    bundle.add_argument(
        "--portable",
        action="store_true",
        help="the served graph, and the fp32 graph for machines on which that computes something else",
    )
    bundle.set_defaults(act=_bundle)
    add_score(commands)
    add_doctor(commands)
    add_commands(commands)
    add_traces(commands)
    return parser


def _bundle(options: argparse.Namespace) -> None:
    try:
        from hybrid.pipeline.requantize import make_portable, requantize
    except ImportError as error:
        raise ConfigError(
            f"bundle: {error.name} is not installed; this command calibrates again and needs hybrid-cascade[train]"
        ) from error
    if options.portable:
        make_portable(options.run, options.target)
    else:
        requantize(options.run, options.target, options.precision)
    _info(argparse.Namespace(bundle=options.target))


def _predict(options: argparse.Namespace) -> None:
    classifier = hybrid.load(options.bundle)
    encode = msgspec.json.Encoder().encode
    for texts in _chunks(_texts(options)):
        for text, prediction in zip(texts, classifier.classify(texts, threshold=options.threshold), strict=True):
            explained = {"explanation": classifier.explain(text)} if options.explain else {}
            print(encode({"text": text} | msgspec.to_builtins(prediction) | explained).decode())


def _texts(options: argparse.Namespace) -> Iterable[str]:
    """Return the texts to classify; empty lines are skipped."""
    if options.texts and options.file:
        raise DataError("predict: got texts and --file; expected one of the two")
    if options.texts:
        return list(options.texts)
    if options.file and is_table(options.file):
        return read_texts(options.file, options.text)
    return _lines(options.file)


def _lines(path: Path | None) -> Iterable[str]:
    where = "standard input" if path is None else str(path)
    with closing(split_file(sys.stdin.buffer, where) if path is None else read_lines(path, where)) as lines:
        for number, start, line in lines:
            try:
                text = line.decode("utf-8").strip().strip(INVISIBLE).strip()
            except UnicodeDecodeError as error:
                raise DataError(not_utf8(where, number, start, error)) from error
            if text:
                yield text


def _chunks(texts: Iterable[str]) -> Iterable[list[str]]:
    chunk: list[str] = []
    for text in texts:
        chunk.append(text)
        if len(chunk) == TEXTS_A_CALL:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _limits_line(limits: TextLimits) -> str:
    if limits.windows != "none":
        return f"windows of {limits.max_length} tokens, {limits.overlap} shared, pooled by {limits.windows}"
    lost = {"right": "its end", "left": "its beginning", "both": "its middle"}[limits.truncate]
    return f"{limits.max_length} tokens; a longer text loses {lost}"


def _info(options: argparse.Namespace) -> None:
    bundle = read_bundle(options.bundle)
    size = (options.bundle / MODEL).stat().st_size / 1e6
    for name, value in {
        "name": bundle.name,
        "labels": ", ".join(bundle.labels),
        "encoder": f"{bundle.encoder}, {bundle.precision}, {size:.0f} MB, {_limits_line(bundle.reading)}",
        "calibration": bundle.calibration.method,
        "threshold": threshold_line(bundle.threshold),
        "recipe": bundle.recipe_hash[:12],
        "files": ", ".join(f"{name} {digest[:12]}" for name, digest in bundle.files.items()) + " (checked)",
        "made with": ", ".join(f"{name} {version}" for name, version in bundle.versions.items()),
        **({"portable": _portable_line(options.bundle)} if bundle.fallback else {}),
        **({"other here": others} if (others := other_versions(bundle.versions)) else {}),
    }.items():
        print(f"{name:<12} {value}")
    for i, line in enumerate(promise_lines(bundle.reference)):
        print(f"{'' if i else 'promises':<12} {line}")


def _portable_line(folder: Path) -> str:
    """Which of the graphs of a portable bundle answers on this machine."""
    return f"{hybrid.load(folder).bundle.precision} answers on this machine; fp32 where the golden texts do not hold"


if __name__ == "__main__":
    sys.exit(main())
