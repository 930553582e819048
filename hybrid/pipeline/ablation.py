"""What each step was worth: the same encoder trained on other labels, judged on the same test rows."""

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from hybrid.config import Recipe
from hybrid.evaluation.metrics import accuracy, macro_f1
from hybrid.evaluation.set_metrics import macro_f1_of_sets, subset_accuracy
from hybrid.files.table import read_rows
from hybrid.label_sets import index_by_label, join_labels, label_matrix
from hybrid.pipeline.context import RunContext
from hybrid.pipeline.stages import run_stage
from hybrid.runtime.bundle import MODEL
from hybrid.stages.fitting import fit, remove_workdirs
from hybrid.stages.quantize import range_texts
from hybrid.stages.stage import (
    DECISIONS,
    DRAFTS,
    GOLD,
    LABELS,
    ROWS,
    TRAINING_DRAFTS,
    TRIALS,
    VOTES,
    Reads,
    Stage,
    StageIO,
    Table,
)
from hybrid.types import Draft, Epoch, Precision, Report, Row, Task

if TYPE_CHECKING:
    from hybrid.data.training_rows import TrainingRow

VARIANTS = ("given", "cleaned", "cleaned_synthetic", "gold")
"""Labels as given, cleaned, cleaned with the accepted drafts, and gold: the ceiling."""


class Predicted(Row, frozen=True, kw_only=True):
    """A test row under one variant."""

    id: str
    gold: str
    label: str


def served_variant(context: RunContext) -> str:
    """The variant that the run itself trains and ships."""
    labels = context.recipe.train.labels
    if not read_rows(context.run.path(TRAINING_DRAFTS.path), Draft):
        return labels
    return "cleaned_synthetic" if labels == "cleaned" else "given_synthetic"


def ablate(context: RunContext) -> list[str]:
    """Train and judge every variant that the run does not ship; return the variants there are figures for."""
    known = {gold.id for gold in context.gold()}
    has_gold = all(row.id in known for row in context.rows("train"))
    has_drafts = any(draft.status == "accepted" for draft in _passed_alone(context.drafts()))
    # Several labels a row are kept as given: cleaned ones are the same.
    one_label = context.recipe.task == "single_label"
    possible = {"given": one_label, "cleaned": one_label, "cleaned_synthetic": has_drafts, "gold": has_gold}
    served = served_variant(context)
    others = [variant for variant in VARIANTS if possible[variant] and variant != served]
    for variant in others:
        run_stage(variant_stage(variant), context)
    return [served, *others]


def variant_stage(variant: str) -> Stage:
    """The stage that trains one variant and predicts the test rows through the runtime; it keeps predictions alone."""
    tables = {"cleaned": (DECISIONS,), "cleaned_synthetic": (DECISIONS, DRAFTS), "gold": (GOLD, DECISIONS)}
    name = f"ablate/{variant}"

    def reads(recipe: Recipe) -> Reads:
        return of_all.with_(Reads(tables=(VOTES,))) if recipe.train.evidence_weight else of_all

    of_all = Reads(
        settings=("train", "export", "task", "seed", "quantize.range_rows"),
        tables=(ROWS, TRIALS, *tables.get(variant, (DECISIONS,))),
        reports=(LABELS, "quantize.precision"),
        encoder=True,
    )
    return Stage(
        name=name,
        purpose=f"training rows, {variant} -> predictions on test rows",
        version=2,
        reads=reads,
        writes=(f"{name}/predicted.jsonl", f"{name}/history.jsonl"),
        code=("hybrid.data.training_rows", "hybrid.encoders", "hybrid.evaluation", "hybrid.runtime"),
        work=partial(_work, variant=variant),
        summary_line=lambda r: f"accuracy {r['accuracy']:.3f}, macro-F1 {r['macro_f1']:.3f}",
    )


def _work(io: StageIO, *, variant: str) -> Report:
    from hybrid.encoders.exporting import export
    from hybrid.runtime.encoder import Encoder

    recipe, labels = io.recipe, io.labels
    fitted = fit(io, recipe.train, _rows(io, variant))
    io.write(Table(f"{io.name}/history.jsonl", Epoch), fitted.history)
    exported = io.scratch() / "export"
    export(fitted.checkpoint, io.rows("train"), labels, recipe.export, folder=exported, reading=io.limits)
    test = io.rows("test")
    encoder = Encoder(exported, n_labels=len(labels), reading=io.limits, model=_as_served(io, exported))
    answers = _decided(encoder.logits([row.text for row in test]), labels, recipe.task)
    predicted = [Predicted(id=row.id, gold=row.label, label=label) for row, label in zip(test, answers, strict=True)]
    io.write(Table(f"{io.name}/predicted.jsonl", Predicted), predicted)
    shutil.rmtree(exported)
    remove_workdirs(io.scratch())
    return fitted.report | _scores(predicted, labels, recipe.task)


def _decided(logits: np.ndarray, labels: Sequence[str], task: Task) -> list[str]:
    """Return the label of each row of logits [n, k]; of several labels those with a probability over one half."""
    if task == "multi_label":
        return [join_labels(labels[i] for i in row.nonzero()[0]) for row in logits > 0]
    return [labels[i] for i in logits.argmax(axis=1)]


def _scores(predicted: Sequence[Predicted], labels: Sequence[str], task: Task) -> Report:
    gold, answers = [row.gold for row in predicted], [row.label for row in predicted]
    if task == "multi_label":
        truth, chosen = label_matrix(gold, labels), label_matrix(answers, labels)
        scores = {"accuracy": subset_accuracy(truth, chosen), "macro_f1": macro_f1_of_sets(truth, chosen)}
    else:
        index = index_by_label(labels)
        truth, chosen = (np.array([index[label] for label in side]) for side in (gold, answers))
        scores = {"accuracy": accuracy(truth, chosen), "macro_f1": macro_f1(truth, chosen, len(labels))}
    return {name: round(score, 6) for name, score in scores.items()}


def _as_served(io: StageIO, exported: Path) -> str:
    """Write the graph at the precision that ships, so that like is compared with like; return its file name."""
    from hybrid.encoders.served_precisions import read_source, write_graph_at
    from hybrid.runtime.encoder import Encoder

    served: Precision = io.report_field("quantize.precision")
    if served == "fp32":
        return MODEL
    fp32 = Encoder(exported, n_labels=len(io.labels), reading=io.limits)
    source = read_source(exported / MODEL, fp32.feeds(range_texts(io)))
    in_fp32 = set(io.read(TRIALS)[-1].fp32_linears)
    sensitive = [linear.name for linear in source.linears if linear.name in in_fp32 and not linear.narrows]
    write_graph_at(source, served, exported / "served.onnx", sensitive=sensitive)
    return "served.onnx"


def _rows(io: StageIO, variant: str) -> "list[TrainingRow]":
    """The training rows of a variant. Gold is read here alone, for the ceiling, and never ships."""
    from hybrid.data.training_rows import training_rows

    labels = "cleaned" if variant.startswith("cleaned") else "given"
    config = msgspec.structs.replace(io.recipe.train, labels=labels)
    rows = io.rows("train")
    if variant == "gold":
        gold = {row.id: row.label for row in io.read(GOLD)}
        rows = [msgspec.structs.replace(row, label=gold[row.id]) for row in rows]
    drafts = _passed_alone(io.read(DRAFTS)) if variant == "cleaned_synthetic" else []
    votes = io.read(VOTES) if config.evidence_weight else ()
    return training_rows(rows, io.read(DECISIONS), drafts, io.labels, config, task=io.recipe.task, votes=votes)


def _passed_alone(drafts: Sequence[Draft]) -> list[Draft]:
    """The drafts, with those accepted that only the gate kept out: what it kept out is what is measured."""
    return [
        msgspec.structs.replace(draft, status="accepted") if draft.status == "batch_refused" else draft
        for draft in drafts
    ]
