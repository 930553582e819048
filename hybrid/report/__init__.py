"""The results of a run: `summary.json`, `report.html`, and the bundle's model card and data card."""

from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files
from pathlib import Path

from hybrid.files.hashing import sha256_of, sha256_of_file
from hybrid.files.table import write_bytes, write_json
from hybrid.pipeline.context import RunContext
from hybrid.pipeline.run import REPORT, STAMP, Run
from hybrid.pipeline.stages import STAGES
from hybrid.report.summary import SeedFigures, summarise
from hybrid.types import Report

PAGE = "report.html"
CARD = "README.md"
DATA_CARD = "data-card.md"


def write_outcome(context: RunContext, figures: Sequence[SeedFigures]) -> None:
    """Write the summary, and rebuild page and cards if they do not match the run.

    Raises:
        DataError: a stage's report cannot be read.
        StorageError: a file cannot be written.
    """
    run = context.run
    summary = summarise(context, figures)
    write_json(run.path("summary.json"), summary)
    made_from = fingerprint(run, summary)
    if not _is_made_from(run.path(PAGE), made_from):
        from hybrid.report.page import render_page

        write_bytes(run.path(PAGE), render_page(context, summary, made_from=made_from).encode())
    if not all(_is_made_from(run.path("bundle", card), made_from) for card in (CARD, DATA_CARD)):
        from hybrid.provenance.build import read_receipts
        from hybrid.report.cards import render_card, render_data_card, tally

        counts = tally(read_receipts(context))
        write_bytes(run.path("bundle", CARD), render_card(context, counts, summary, made_from=made_from).encode())
        write_bytes(
            run.path("bundle", DATA_CARD), render_data_card(context, counts, summary, made_from=made_from).encode()
        )


def fingerprint(run: Run, summary: Report) -> str:
    """Compute the SHA-256 of everything that page and cards are made from: summary, stamps, stage reports, this package.

    An incomplete stage has no stamp; its report alone then represents it.
    """
    stage_files = [run.path(stage.name, name) for stage in STAGES for name in (STAMP, REPORT)]
    tables = {str(i): sha256_of_file(path) for i, path in enumerate(stage_files) if path.exists()}
    sources = {
        path.name: sha256(path.read_bytes()).hexdigest()
        for path in sorted(files(__name__).iterdir(), key=lambda path: path.name)
        if path.is_file()
    }
    return sha256_of([summary, tables, sources])


def _is_made_from(path: Path, made_from: str) -> bool:
    try:
        return made_from.encode() in path.read_bytes()
    except OSError:
        return False
