"""clean: every training row kept, relabelled, dropped or put up for review, with the reason."""

import numpy as np

from hybrid.config import Recipe
from hybrid.stages.stage import DECISIONS, LABELS, ROWS, TRUSTED, VOTES, Reads, Stage, StageIO
from hybrid.stages.trusted import trusted_reads, trusted_rows_of, unused_answers
from hybrid.types import Report

EMBEDDINGS = "clean/embeddings.npy"
"""Frozen embeddings of the training rows, float32 of shape [n, d]."""
CLASSIFIER = "clean/classifier.npy"
"""Cross-fitted class probabilities of the training rows, float32 of shape [n, k]."""


def _reads(recipe: Recipe) -> Reads:
    return Reads(settings=("clean", "task", "seed"), tables=(ROWS, VOTES), reports=(LABELS,), encoder=True).with_(
        trusted_reads(recipe)
    )


def _work(io: StageIO) -> Report:
    from hybrid.labels.cleaning import clean, keep_as_given

    rows, trusted = io.rows("train"), trusted_rows_of(io)
    io.write(TRUSTED, trusted)
    if io.recipe.task == "multi_label":
        cleaned = keep_as_given(rows, io.labels)
    else:
        cleaned = clean(
            rows,
            io.read(VOTES),
            io.labels,
            io.recipe.clean,
            embed=io.embed,
            seed=io.recipe.seed,
            trusted=trusted,
        )
    io.write(DECISIONS, cleaned.decisions)
    for path, array in ((EMBEDDINGS, cleaned.embeddings), (CLASSIFIER, cleaned.classifier.astype(np.float32))):
        with io.output(path).open("wb") as file:
            np.save(file, array)
    return cleaned.report | {"unused_answers": unused_answers(io)}


NO_JUDGES = (
    "; all of them were picked for a review, so none could choose the method (review export --random 100 draws rows that "
    "can)"
)
_UNUSED = {"gone": "about texts no longer in the data", "judging": "about rows that calibrate or test now"}


def _summary_line(report: Report) -> str:
    return (
        f"{report['method']}: "
        + ", ".join(f"{n} {action}" for action, n in report["actions"].items())
        + (f"; {sum(report['trusted'].values())} trusted rows" if report["trusted"] else "")
        + (NO_JUDGES if report.get("picked_rows") and not report["methods"] else "")
        + "".join(
            f"; {n} answers of reviews are {_UNUSED[why]}" for why, n in report.get("unused_answers", {}).items() if n
        )
        + "".join(f"; {name} is ignored: its votes are worth too little" for name in report["ignored_sources"])
    )


CLEAN = Stage(
    name="clean",
    purpose="training rows + votes -> keep, relabel, drop, review",
    version=6,
    reads=_reads,
    writes=(DECISIONS.path, TRUSTED.path, EMBEDDINGS, CLASSIFIER),
    code=(
        "hybrid.data",
        "hybrid.encoders",
        "hybrid.label_sets",
        "hybrid.labels",
        "hybrid.stages.trusted",
    ),
    work=_work,
    summary_line=_summary_line,
)
