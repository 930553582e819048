"""`hybrid predict`: classify texts with a bundle."""

import argparse
import sys
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from hybrid.commands.arguments import add_bundle, add_engine, share
from hybrid.errors import DataError
from hybrid.files.formats import FORMATS

TEXTS_A_CALL = 256
"""The most texts that are read before they are classified together."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `hybrid predict`."""
    add_bundle(parser)
    parser.add_argument("texts", nargs="*", help="the texts; without any, each line of standard input is one")
    parser.add_argument(
        "--file", type=Path, help=f"a file of texts: {', '.join(FORMATS)}, or any other name for one text per line"
    )
    parser.add_argument("--text", default="text", metavar="COLUMN", help="the column of the texts (%(default)s)")
    parser.add_argument(
        "--threshold", type=share, help="escalate below this confidence (default: the bundle's threshold)"
    )
    parser.add_argument("--explain", action="store_true", help="add how much each word contributes to the answer")
    add_engine(parser)
    parser.set_defaults(act=_predict)


def _predict(options: argparse.Namespace) -> None:
    import msgspec

    import hybrid
    from hybrid.runtime.bundle import bundle_path

    classifier = hybrid.load(bundle_path(options.bundle), engine=options.engine_backend)
    encode = msgspec.json.Encoder().encode
    for texts in _chunks(_texts(options)):
        answers = classifier.classify(texts, threshold=options.threshold, evidence=classifier.has_evidence)
        for text, prediction in zip(texts, answers, strict=True):
            explained = {"explanation": classifier.explain(text)} if options.explain else {}
            print(encode({"text": text} | msgspec.to_builtins(prediction) | explained).decode())


def _texts(options: argparse.Namespace) -> Iterable[str]:
    """Return the texts to classify; empty lines are skipped."""
    from hybrid.files.formats import is_table
    from hybrid.scoring.rows import read_texts

    if options.texts and options.file:
        raise DataError("predict: got texts and --file; expected one of the two")
    if options.texts:
        return list(options.texts)
    if options.file and is_table(options.file):
        return read_texts(options.file, options.text)
    return _lines(options.file)


def _lines(path: Path | None) -> Iterable[str]:
    from hybrid.files.formats.lines import INVISIBLE, not_utf8, read_lines, split_file

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
