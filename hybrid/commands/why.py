"""`hybrid why`: everything that happened to a row."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hybrid.commands.arguments import add_json, add_run
from hybrid.errors import DataError

if TYPE_CHECKING:
    from hybrid.provenance.rows import Receipt


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `hybrid why`."""
    add_run(parser)
    parser.add_argument(
        "row_id", nargs="?", default="", help="the id of a row or of a draft, or a place such as rows.csv:17"
    )
    parser.add_argument("--all", type=Path, metavar="FILE", help="write the history of every row to a JSONL file")
    add_json(parser)
    parser.set_defaults(act=_why)


def _why(options: argparse.Namespace) -> object:
    from hybrid.commands.open_run import open_run
    from hybrid.files.table import write_rows
    from hybrid.provenance.build import read_receipts, receipt_of
    from hybrid.report.row_history import row_history_lines

    if bool(options.row_id) == bool(options.all):
        raise DataError("why: expected exactly one of the id of a row and --all FILE")
    context = open_run(options.run)
    receipts = read_receipts(context)
    if options.all:
        write_rows(options.all, receipts)
        context.run.screen.say(f"{len(receipts)} receipts written to {options.all}")
        return {"receipts": len(receipts), "file": str(options.all)}
    receipt = _with_evidence(receipt_of(receipts, options.row_id, options.run), options.run)
    for line in row_history_lines(receipt):
        context.run.screen.say(line)
    return receipt


def _with_evidence(receipt: "Receipt", run: Path) -> "Receipt":
    """Add the row's evidence words, where the bundle of the run finds them."""
    import msgspec

    import hybrid
    from hybrid.runtime.bundle import MANIFEST, read_bundle

    folder = run / "bundle"
    if not (folder / MANIFEST).is_file() or not read_bundle(folder).evidence or not receipt.text.strip():
        return receipt
    (answer,) = hybrid.load(folder).classify([receipt.text], evidence=True)
    return msgspec.structs.replace(receipt, evidence=answer.evidence)
