"""`report.html`: the results of a run in one self-contained file."""

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from markupsafe import Markup

from hybrid.files.table import read_rows
from hybrid.pipeline.context import RunContext
from hybrid.pipeline.stages import stage_names
from hybrid.report import figures
from hybrid.report.examples import doubted_rows, draft_examples, thinned
from hybrid.report.step_gains import steps, variant_name
from hybrid.report.templates import source, template
from hybrid.types import Epoch, Judged, Report, Vote

MOST_LABELS_CROSSED = 15
"""With more labels than this, a table of the most frequent confusions replaces the matrix."""
PRECISION_REASONS = {
    "set_by_recipe": "set in the recipe",
    "no_bf16_hardware": "this machine has no hardware for bf16",
    "bf16_faster": "bf16 was faster in a timed trial",
    "bf16_not_faster": "bf16 was not clearly faster in a timed trial",
    "bf16_far_slower": "bf16 was far slower in a short trial",
    "bf16_failed": "bf16 failed in the trial",
}


def render_page(context: RunContext, summary: Report, *, made_from: str) -> str:
    """Render the page. `made_from`, the fingerprint of its sources, is written into its head."""
    run = context.run
    stages = stage_names(context.recipe)
    reports = {stage: run.report(stage) for stage in stages}
    judged = read_rows(run.path("evaluate", "judged.jsonl"), Judged)
    history = read_rows(run.path("train", "history.jsonl"), Epoch)
    script = source("page.js")
    return template("template.html").render(
        made_from=made_from,
        style=Markup(source("page.css")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        summary=summary,
        description=context.recipe.description,
        recipe=context.recipe,
        labels=context.presented_labels,
        reports=reports,
        steps=steps(summary, reports),
        rows=_doubted(context),
        drafts=draft_examples(context.drafts()),
        history=history,
        scores=_scores(summary),
        training_precision=_training_precision(reports["train"]),
        mistakes=_mistakes(reports["evaluate"], context.labels, context.presented_labels)
        if context.recipe.task == "single_label"
        else None,
        stages=[(stage, reports[stage]["seconds"], _llm_usage(stage, reports[stage])) for stage in stages],
        bundle=msgspec.json.decode(run.path("bundle", "bundle.json").read_bytes()),
        drawn={
            name: Markup(svg) if svg else None
            for name, svg in figures.draw_all(
                summary, reports, judged, history, context.labels, context.recipe.task
            ).items()
        },
    )


def _training_precision(trained: Report) -> str:
    """Describe the training precision and what decided it; version 0.1.0 reported no reason."""
    parts = [trained["precision"]]
    if reason := trained.get("precision_reason"):
        error = trained["precision_error"]
        parts.append(PRECISION_REASONS[reason] + (f" ({error})" if error else ""))
    parts += [f"{name} {time:.3g} s a step" for name, time in trained["seconds_a_step_in_trial"].items()]
    return ", ".join(parts)


def _doubted(context: RunContext) -> dict[str, Any]:
    votes = read_rows(context.run.path("verify", "votes.jsonl"), Vote)
    gold = {row.id: row.label for row in context.gold()}
    rows = doubted_rows(context.rows("train"), context.decisions(), votes, gold)
    return {"total": len(rows), "shown": thinned(rows), "gold": any(row.gold is not None for row in rows)}


def _scores(summary: Report) -> list[dict[str, Any]]:
    """Build the rows of the score table, one per variant."""
    rows = []
    for variant, scores in figures.encoders_first(summary).items():
        several = len(scores.get("accuracy_seeds", [])) > 1
        rows.append(
            {
                "name": variant_name(variant),
                "ships": variant == summary["served"],
                "rows": scores.get("rows", summary["rows"]["test"]),
                "several": several,
                "measures": [
                    {
                        "value": scores[measure],
                        "bounds": (min(scores[f"{measure}_seeds"]), max(scores[f"{measure}_seeds"]))
                        if several
                        else scores.get(f"{measure}_interval"),
                    }
                    for measure in ("accuracy", "macro_f1")
                ],
            }
        )
    return rows


def _mistakes(evaluated: Report, computed: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """Build the confusion matrix, if it fits on the page, and the most frequent confusion of each label.

    `computed` is the order of the matrix in the report, `labels` the order in which to show it.
    """
    order = [computed.index(label) for label in labels]
    counts = np.array(evaluated["confusion"])[np.ix_(order, order)]
    totals = counts.sum(axis=1)
    wrong = counts - np.diag(np.diag(counts))
    matrix = len(labels) <= MOST_LABELS_CROSSED
    return {
        "matrix": matrix,
        "rows": [
            {
                "label": label,
                "n": int(totals[i]),
                "recall": evaluated["recall"][label] if totals[i] else None,
                "cells": [(int(n), round(int(n) / max(1, int(totals[i])), 3)) for n in counts[i]] if matrix else [],
                "taken_for": f"{labels[int(wrong[i].argmax())]} ({int(wrong[i].max())})" if wrong[i].any() else "",
            }
            for i, label in enumerate(labels)
        ],
    }


def _llm_usage(stage: str, report: Report) -> dict[str, Any] | None:
    """Select the calls and cost of a stage that asks a language model; None for the other stages."""
    usage: dict[str, Any] | None = {
        "verify": report,
        "synthesize": report.get("llm"),
        "evaluate": report.get("decoder"),
    }.get(stage)
    return usage if usage and "calls" in usage else None
