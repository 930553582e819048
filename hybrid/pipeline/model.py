"""The middle of the story: from cleaned rows to the graph that ships.

Heavy libraries are imported where a stage works, so that a run with nothing to do ends in seconds.
"""

import shutil

from hybrid.files.table import write_rows
from hybrid.pipeline.context import RunContext, remove_workdirs
from hybrid.pipeline.run import settings_of
from hybrid.types import Report


def train(story: RunContext) -> None:
    """cleaned + drafts -> checkpoint"""
    recipe, run = story.recipe, story.run
    drafts = story.uses_drafts()

    def work(key: str) -> Report:
        from hybrid.data.training_rows import training_rows

        accepted = story.drafts() if drafts else []
        given, decisions = story.rows("train"), story.decisions()
        rows = training_rows(given, decisions, accepted, story.labels, recipe.train, task=recipe.task)
        report, best = story.fit("train", key, recipe.train, rows)
        shutil.rmtree(run.path("train", "checkpoint"), ignore_errors=True)
        best.replace(run.path("train", "checkpoint"))
        remove_workdirs(run.path("train"))
        return report

    run.stage(
        "train",
        version=2,
        settings=settings_of(recipe.train, recipe.encoder, drafts, recipe.task, recipe.seed, story.encoder_hash()),
        inputs=[
            run.path("split", "rows.jsonl"),
            run.path("clean", "decisions.jsonl"),
            *([run.path("synthesize", "drafts.jsonl")] if drafts else []),
        ],
        outputs=[
            "train/history.jsonl",
            "train/checkpoint/config.json",
            "train/checkpoint/model.safetensors",
            "train/checkpoint/tokenizer.json",
        ],
        work=work,
        says=lambda r: (
            f"best epoch {r['best_epoch']:g}, {r['precision']}"
            + (f", {r['rows_per_second']} rows/s" if r["rows_per_second"] else "")
            + (f", resumed at step {r['resumed_from_step']}" if r["resumed_from_step"] else "")
        ),
    )


def export(story: RunContext) -> None:
    """checkpoint -> ONNX graph"""
    recipe, run = story.recipe, story.run

    def work(_: str) -> Report:
        from hybrid.stages.export import export

        found = export(
            run.path("train", "checkpoint"),
            story.rows("train"),
            story.labels,
            recipe.export,
            folder=run.path("export"),
            reading=story.reading,
            on_done=run.screen.advance,
        )
        write_rows(run.path("export", "parity.jsonl"), found.parity)
        return found.report

    run.stage(
        "export",
        version=2,
        settings=settings_of(recipe.export, story.reading),
        inputs=[
            run.path("split", "rows.jsonl"),
            run.path("train", "checkpoint", "model.safetensors"),
            run.path("train", "checkpoint", "tokenizer.json"),
        ],
        outputs=["export/model.onnx", "export/tokenizer.json", "export/parity.jsonl"],
        work=work,
        says=lambda r: f"{r['bytes'] / 1e6:.0f} MB, largest difference of a logit {r['max_abs_diff']:.1e}",
    )


def quantize(story: RunContext) -> None:
    """fp32 graph -> the fastest graph that decides as well"""
    recipe, run = story.recipe, story.run

    def work(_: str) -> Report:
        from hybrid.stages.quantize import quantize

        found = quantize(
            story.gate_rows(),
            story.labels,
            recipe.quantize,
            exported=run.path("export"),
            folder=run.path("quantize"),
            range_texts=story.range_texts(),
            reading=story.reading,
            seed=recipe.seed,
            task=recipe.task,
            on_done=run.screen.advance,
        )
        write_rows(run.path("quantize", "rungs.jsonl"), found.trials)
        return found.report

    run.stage(
        "quantize",
        version=1,
        settings=settings_of(recipe.quantize, recipe.task, recipe.seed, story.reading),
        inputs=[
            run.path("split", "rows.jsonl"),
            run.path("clean", "decisions.jsonl"),
            run.path("export", "model.onnx"),
            run.path("export", "tokenizer.json"),
        ],
        outputs=["quantize/model.onnx", "quantize/tokenizer.json", "quantize/rungs.jsonl"],
        work=work,
        says=lambda r: f"{r['precision']}, {r['bytes'] / 1e6:.0f} MB ({r['bytes_fp32'] / 1e6:.0f} in fp32)",
    )
