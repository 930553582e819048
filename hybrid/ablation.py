"""What each step was worth: the same encoder trained on other labels, judged on the same test rows."""

import shutil
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from hybrid.metrics import accuracy, macro_f1
from hybrid.run import Report, settings_of
from hybrid.story import Story, remove_workdirs
from hybrid.table import write_rows
from hybrid.types import Example, Row

if TYPE_CHECKING:
    from hybrid.stages.train import TrainingRow

VARIANTS = ("given", "cleaned", "cleaned_synthetic", "gold")
"""Labels as given, cleaned, cleaned with the accepted drafts, and gold: the ceiling."""


class Predicted(Row, frozen=True, kw_only=True):
    """A test row under one variant."""

    id: str
    gold: str
    label: str


def served_variant(story: Story) -> str:
    """Return the variant that the run itself trains and ships."""
    if story.recipe.synthesize.use:
        return "cleaned_synthetic" if story.recipe.train.labels == "cleaned" else "given_synthetic"
    return story.recipe.train.labels


def ablate(story: Story) -> list[str]:
    """Train and judge every variant that the run does not ship; return the variants there are figures for."""
    known = {gold.id for gold in story.gold()}
    has_gold = all(row.id in known for row in story.rows("train"))
    has_drafts = any(draft.status == "accepted" for draft in story.drafts())
    possible = {"given": True, "cleaned": True, "cleaned_synthetic": has_drafts, "gold": has_gold}
    served = served_variant(story)
    wanted = [variant for variant in VARIANTS if possible[variant] and variant != served]
    for variant in wanted:
        _judge(story, variant)
    return [served, *wanted]


def _judge(story: Story, variant: str) -> None:
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
            max_length=recipe.encoder.max_length,
        )
        test, labels = story.rows("test"), story.labels
        best = Encoder(exported, n_labels=len(labels)).logits([row.text for row in test]).argmax(axis=1)
        gold = np.array([labels.index(row.label) for row in test])
        write_rows(
            run.path(stage, "predicted.jsonl"),
            [Predicted(id=row.id, gold=row.label, label=labels[i]) for row, i in zip(test, best, strict=True)],
        )
        shutil.rmtree(exported)
        remove_workdirs(run.path(stage))
        return fitted | {
            "accuracy": round(accuracy(gold, best), 6),
            "macro_f1": round(macro_f1(gold, best, len(labels)), 6),
        }

    run.stage(
        stage,
        version=1,
        settings=settings_of(recipe.train, recipe.encoder, recipe.export, recipe.seed, variant),
        inputs=[run.path(*name.split("/")) for name in _inputs(variant)],
        outputs=[f"{stage}/predicted.jsonl", f"{stage}/history.jsonl"],
        work=work,
        says=lambda r: f"accuracy {r['accuracy']:.3f}, macro-F1 {r['macro_f1']:.3f}",
    )


def _inputs(variant: str) -> list[str]:
    tables = {
        "cleaned": ["clean/decisions.jsonl"],
        "cleaned_synthetic": ["clean/decisions.jsonl", "synthesize/drafts.jsonl"],
        "gold": ["split/gold.jsonl"],
    }
    return ["split/rows.jsonl", *tables.get(variant, [])]


def _rows(story: Story, variant: str) -> "list[TrainingRow]":
    """Return the training rows of a variant. Gold is read here alone, for the ceiling, and never ships."""
    from hybrid.stages.train import training_rows

    labels = "cleaned" if variant.startswith("cleaned") else "given"
    config = msgspec.structs.replace(story.recipe.train, labels=labels)
    rows = story.rows("train")
    if variant == "gold":
        gold = {row.id: row.label for row in story.gold()}
        rows = [_relabelled(row, gold[row.id]) for row in rows]
    drafts = story.drafts() if variant == "cleaned_synthetic" else []
    return training_rows(rows, story.decisions(), drafts, story.labels, config)


def _relabelled(row: Example, label: str) -> Example:
    return msgspec.structs.replace(row, label=label)
