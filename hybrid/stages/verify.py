"""verify: blind votes of the teacher on training rows, and votes that came from elsewhere."""

from collections.abc import Sequence

import msgspec
import numpy as np

from hybrid.config import Recipe
from hybrid.prompts import text_hash
from hybrid.stages.asking import teacher_of
from hybrid.stages.stage import LABELS, ROWS, VOTES, Reads, Stage, StageIO
from hybrid.stages.trusted import trusted_reads, trusted_rows_of
from hybrid.teacher.ask import AskedVotes
from hybrid.teacher.imported_votes import read_votes, tally, tally_without_label
from hybrid.teacher.row_selection import TrustedRows
from hybrid.teacher.vote_collection import collect_votes, prompt_of
from hybrid.types import Example, Report


def _reads(recipe: Recipe) -> Reads:
    verify = recipe.verify
    reads = Reads(
        settings=("verify", "task", "seed"),
        tables=(ROWS,),
        reports=(LABELS,),
        recipe_files=("verify.imports",),
        prompts=(prompt_of(verify),),
        llms=("teacher",),
    )
    if asks_second(recipe):
        reads = reads.with_(Reads(llms=("second",), prompts=("verify",)))
    if verify.more == "reasoned" and verify.more_calls:
        reads = reads.with_(Reads(prompts=("verify",)))
    if verify.more_calls or verify.max_calls:
        # A classifier says which rows are asked about.
        reads = reads.with_(Reads(settings=("clean",), encoder=True))
    return reads.with_(trusted_reads(recipe)) if verify.max_calls else reads


def _work(io: StageIO) -> Report:
    answers = teacher_votes(io, io.rows("train"))
    imported = read_votes(io.recipe.verify.imports, io.recipe_dir, io.rows(), io.labels)
    io.write(VOTES, [*answers.votes, *imported])
    hashes = {
        "prompt": text_hash(io.prompt(prompt_of(io.recipe.verify))),
        "policy": text_hash(io.policy("teacher")),
    }
    return (
        answers.report | hashes | {"imported": tally(imported), "imported_without_label": tally_without_label(imported)}
    )


def teacher_votes(io: StageIO, rows: Sequence[Example]) -> AskedVotes:
    """The teachers' blind votes on training rows, and what they cost."""
    verify = io.recipe.verify
    return collect_votes(
        rows,
        io.labels,
        verify,
        teacher=teacher_of(io, "teacher"),
        second=teacher_of(io, "second") if asks_second(io.recipe) else None,
        beliefs=lambda: _beliefs(io, rows),
        on_done=io.advance,
        trusted=_trusted_rows(io, rows) if verify.max_calls else None,
    )


def asks_second(recipe: Recipe) -> bool:
    """Whether further votes are asked of the second teacher."""
    return recipe.verify.more == "second" and recipe.verify.more_calls > 0


def _trusted_rows(io: StageIO, rows: Sequence[Example]) -> TrustedRows | None:
    """What the trusted rows teach before any vote; None without one."""
    trusted = trusted_rows_of(io)

    def repaired() -> np.ndarray:
        from hybrid.labels.cleaning import clean

        config = msgspec.structs.replace(io.recipe.clean, method="repair")
        cleaned = clean(rows, [], io.labels, config, embed=io.embed, seed=io.recipe.seed, trusted=trusted)
        return np.array([decision.probs for decision in cleaned.decisions])

    return TrustedRows(frozenset(row.id for row in trusted), repaired) if trusted else None


def _beliefs(io: StageIO, rows: Sequence[Example]) -> np.ndarray:
    """Class probabilities [n, k] of rows, cross-fitted on frozen embeddings with the given labels."""
    from hybrid.labels.consensus import cross_fitted

    given = np.array([io.labels.index(row.label) for row in rows])
    embeddings = io.embed([row.text for row in rows])
    return cross_fitted(embeddings, given, len(io.labels), folds=io.recipe.clean.folds, seed=io.recipe.seed)


def _summary_line(report: Report) -> str:
    line = f"{report['ok']} votes of {report['asked']} asked" if report["asked"] else "no teacher: labels as given"
    if report.get("unreadable") and not report.get("complete", True):
        line += f"; {report['unreadable']} could not be read, and the next run asks them again"
    if report.get("odd_usage"):
        line += f"; {report['odd_usage']} of them without token counts that a call can have, booked at the most they could cost"
    line += "".join(f"; {n} imported from {source}" for source, n in report["imported"].items())
    return line + "".join(
        f"; {source} without a label: {', '.join(f'{n} {status}' for status, n in counts.items())}"
        for source, counts in report.get("imported_without_label", {}).items()
    )


VERIFY = Stage(
    name="verify",
    purpose="training rows -> votes",
    version=5,
    reads=_reads,
    writes=(VOTES.path,),
    code=(
        "hybrid.data",
        "hybrid.encoders",
        "hybrid.label_sets",
        "hybrid.labels",
        "hybrid.llm",
        "hybrid.runtime",
        "hybrid.stages.asking",
        "hybrid.stages.trusted",
        "hybrid.teacher",
    ),
    work=_work,
    summary_line=_summary_line,
)
