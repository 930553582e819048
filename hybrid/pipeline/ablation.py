"""What each step was worth: the same encoder trained on other labels, judged on the same test rows."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from hybrid.evaluation.metrics import accuracy, macro_f1
from hybrid.evaluation.set_metrics import macro_f1_of_sets, subset_accuracy
from hybrid.files.table import read_rows, write_rows
from hybrid.label_sets import join_labels, label_matrix
from hybrid.pipeline.context import RunContext, remove_workdirs
from hybrid.pipeline.run import settings_of
from hybrid.runtime.bundle import MODEL
from hybrid.types import Draft, Example, Precision, PrecisionTrial, Report, Row, Task

if TYPE_CHECKING:
    from hybrid.data.training_rows import TrainingRow

VARIANTS = ("given", "cleaned", "cleaned_synthetic", "gold")
"""Labels as given, cleaned, cleaned with the accepted drafts, and gold: the ceiling."""


class Predicted(Row, frozen=True, kw_only=True):
    """A test row under one variant."""

    id: str
    gold: str
    label: str


def served_variant(story: RunContext) -> str:
    """Return the variant that the run itself trains and ships."""
    if story.uses_drafts():
        return "cleaned_synthetic" if story.recipe.train.labels == "cleaned" else "given_synthetic"
    return story.recipe.train.labels


def ablate(story: RunContext) -> list[str]:
    """Train and judge every variant that the run does not ship; return the variants there are figures for."""
    known = {gold.id for gold in story.gold()}
    has_gold = all(row.id in known for row in story.rows("train"))
    has_drafts = any(draft.status == "accepted" for draft in _drafts(story))
    # Several labels a row are kept as given: cleaned ones are the same.
    one_label = story.recipe.task == "single_label"
    possible = {"given": one_label, "cleaned": one_label, "cleaned_synthetic": has_drafts, "gold": has_gold}
    served = served_variant(story)
    wanted = [variant for variant in VARIANTS if possible[variant] and variant != served]
    for variant in wanted:
        _judge(story, variant)
    return [served, *wanted]


def _judge(story: RunContext, variant: str) -> None:
    """Train one variant, predict the test rows through the runtime, and keep the predictions alone."""
    stage, run, recipe = f"ablate/{variant}", story.run, story.recipe

    def work(key: str) -> Report:
        from hybrid.runtime.encoder import Encoder
        from hybrid.stages.export import export

        fitted, checkpoint = story.fit(stage, key, recipe.train, _rows(story, variant))
        exported = run.path(stage, "export")
        export(
            checkpoint,
            story.rows("train"),
            story.labels,
            recipe.export,
            folder=exported,
            reading=story.reading,
        )
        test, labels = story.rows("test"), story.labels
        graph = _as_served(story, exported)
        encoder = Encoder(exported, n_labels=len(labels), reading=story.reading, model=graph)
        said = _said(encoder.logits([row.text for row in test]), labels, recipe.task)
        predicted = [Predicted(id=row.id, gold=row.label, label=one) for row, one in zip(test, said, strict=True)]
        write_rows(run.path(stage, "predicted.jsonl"), predicted)
        shutil.rmtree(exported)
        remove_workdirs(run.path(stage))
        return fitted | _scores(predicted, labels, recipe.task)

    run.stage(
        stage,
        version=2,
        settings=settings_of(
            recipe.train, recipe.encoder, recipe.export, recipe.seed, variant, run.report("quantize")["precision"]
        ),
        inputs=[run.path(*name.split("/")) for name in _inputs(variant)],
        outputs=[f"{stage}/predicted.jsonl", f"{stage}/history.jsonl"],
        work=work,
        says=lambda r: f"accuracy {r['accuracy']:.3f}, macro-F1 {r['macro_f1']:.3f}",
    )


def _said(logits: np.ndarray, labels: Sequence[str], task: Task) -> list[str]:
    """Return the label of each row of logits [n, k]; of several labels those with a probability over one half."""
    if task == "multi_label":
        return [join_labels(labels[i] for i in row.nonzero()[0]) for row in logits > 0]
    return [labels[i] for i in logits.argmax(axis=1)]


def _scores(predicted: Sequence[Predicted], labels: Sequence[str], task: Task) -> Report:
    gold, said = [row.gold for row in predicted], [row.label for row in predicted]
    if task == "multi_label":
        truth, chosen = label_matrix(gold, labels), label_matrix(said, labels)
        found = subset_accuracy(truth, chosen), macro_f1_of_sets(truth, chosen)
    else:
        place = {label: i for i, label in enumerate(labels)}
        wanted, found_there = (np.array([place[label] for label in side]) for side in (gold, said))
        found = accuracy(wanted, found_there), macro_f1(wanted, found_there, len(labels))
    return {"accuracy": round(found[0], 6), "macro_f1": round(found[1], 6)}


def _as_served(story: RunContext, exported: Path) -> str:
    """Write the graph at the precision that ships, so that like is compared with like; return its file name."""
    from hybrid.encoders.served_precisions import read_source, write_graph_at
    from hybrid.runtime.encoder import Encoder

    served: Precision = story.run.report("quantize")["precision"]
    if served == "fp32":
        return MODEL
    fp32 = Encoder(exported, n_labels=len(story.labels), reading=story.reading)
    source = read_source(exported / MODEL, fp32.feeds(story.range_texts()))
    kept = set(read_rows(story.run.path("quantize", "rungs.jsonl"), PrecisionTrial)[-1].fp32_linears)
    sensitive = [linear.name for linear in source.linears if linear.name in kept and not linear.narrows]
    write_graph_at(source, served, exported / "served.onnx", sensitive=sensitive)
    return "served.onnx"


def _inputs(variant: str) -> list[str]:
    tables = {
        "cleaned": ["clean/decisions.jsonl"],
        "cleaned_synthetic": ["clean/decisions.jsonl", "synthesize/drafts.jsonl"],
        "gold": ["split/gold.jsonl"],
    }
    return ["split/rows.jsonl", *tables.get(variant, [])]


def _rows(story: RunContext, variant: str) -> "list[TrainingRow]":
    """Return the training rows of a variant. Gold is read here alone, for the ceiling, and never ships."""
    from hybrid.data.training_rows import training_rows

    labels = "cleaned" if variant.startswith("cleaned") else "given"
    config = msgspec.structs.replace(story.recipe.train, labels=labels)
    rows = story.rows("train")
    if variant == "gold":
        gold = {row.id: row.label for row in story.gold()}
        rows = [_relabelled(row, gold[row.id]) for row in rows]
    drafts = _drafts(story) if variant == "cleaned_synthetic" else []
    return training_rows(rows, story.decisions(), drafts, story.labels, config, task=story.recipe.task)


def _drafts(story: RunContext) -> list[Draft]:
    """Return the drafts, with those accepted that only the gate kept out: what it kept out is what is measured."""
    return [
        msgspec.structs.replace(draft, status="accepted") if draft.status == "batch_refused" else draft
        for draft in story.drafts()
    ]


def _relabelled(row: Example, label: str) -> Example:
    return msgspec.structs.replace(row, label=label)
