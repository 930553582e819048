"""train: fine-tune the encoder on the rows that cleaning left and the drafts that passed."""

import shutil

from hybrid.config import Recipe
from hybrid.stages.fitting import fit, remove_workdirs
from hybrid.stages.stage import DECISIONS, HISTORY, LABELS, ROWS, TRAINING_DRAFTS, VOTES, Reads, Stage, StageIO
from hybrid.types import Report

CHECKPOINT = "train/checkpoint"


def _reads(recipe: Recipe) -> Reads:
    reads = Reads(
        settings=("train", "task", "seed"),
        tables=(ROWS, DECISIONS, TRAINING_DRAFTS),
        reports=(LABELS,),
        encoder=True,
    )
    return reads.with_(Reads(tables=(VOTES,))) if recipe.train.evidence_weight else reads


def _work(io: StageIO) -> Report:
    from hybrid.data.training_rows import training_rows

    rows = training_rows(
        io.rows("train"),
        io.read(DECISIONS),
        io.read(TRAINING_DRAFTS),
        io.labels,
        io.recipe.train,
        task=io.recipe.task,
        votes=io.read(VOTES) if io.recipe.train.evidence_weight else (),
    )
    fitted = fit(io, io.recipe.train, rows)
    io.write(HISTORY, fitted.history)
    checkpoint = io.output(CHECKPOINT)
    shutil.rmtree(checkpoint, ignore_errors=True)
    fitted.checkpoint.replace(checkpoint)
    remove_workdirs(io.scratch())
    return fitted.report


def _summary_line(report: Report) -> str:
    rate, resumed, error = report["rows_per_second"], report["resumed_from_step"], report["precision_error"]
    words = report.get("evidence")
    return (
        f"best epoch {report['best_epoch']:g}, {report['precision']}"
        + (f" (bf16 failed here: {error})" if error else "")
        + (f", {rate} rows/s" if rate else "")
        + (f", resumed at step {resumed}" if resumed else "")
        + (f", evidence words {words['average_precision']:.2f} on held-out rows" if words and words["texts"] else "")
    )


TRAIN = Stage(
    name="train",
    purpose="cleaned rows + drafts -> checkpoint",
    version=2,
    reads=_reads,
    writes=(
        HISTORY.path,
        f"{CHECKPOINT}/config.json",
        f"{CHECKPOINT}/model.safetensors",
        f"{CHECKPOINT}/tokenizer.json",
    ),
    code=(
        "hybrid.calibration",
        "hybrid.data",
        "hybrid.encoders",
        "hybrid.evaluation",
        "hybrid.label_sets",
        "hybrid.runtime",
        "hybrid.stages.fitting",
    ),
    work=_work,
    summary_line=_summary_line,
)
