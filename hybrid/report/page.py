"""`report.html`: the whole result of a run in one file that loads nothing from elsewhere."""

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from markupsafe import Markup

from hybrid.files.table import read_rows
from hybrid.pipeline.context import RunContext
from hybrid.pipeline.stages import STAGE_NAMES as STAGES
from hybrid.report import figures
from hybrid.report.examples import doubted_rows, draft_examples, thinned
from hybrid.report.step_gains import steps, variant_name
from hybrid.report.templates import source, template
from hybrid.types import Epoch, Judged, Report, Vote

MOST_LABELS_CROSSED = 15
"""More labels get a table of their most frequent confusion in place of a matrix."""
PRECISION_REASONS = {
    "set_by_recipe": "set in the recipe",
    "no_bf16_hardware": "this machine has no hardware for bf16",
    "bf16_faster": "bf16 was faster in a timed trial",
    "bf16_not_faster": "bf16 was not clearly faster in a timed trial",
    "bf16_far_slower": "bf16 was far slower in a short trial",
    "bf16_failed": "bf16 failed in the trial",
}


def render_page(context: RunContext, summary: Report, *, made_from: str) -> str:
    """Render the page. `made_from` is the fingerprint of what it was made from, kept in its head."""
    run = context.run
    reports = {stage: run.report(stage) for stage in STAGES}
    judged = read_rows(run.path("evaluate", "judged.jsonl"), Judged)
    history = read_rows(run.path("train", "history.jsonl"), Epoch)
    script = source("search.js")
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
        stages=[(stage, reports[stage]["seconds"], _books(stage, reports[stage])) for stage in STAGES],
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
    """Return the rows of the table of scores, one a variant."""
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
    """Return the confusion matrix where it fits on a page, and the most frequent confusion of each label.

    `computed` is the order of the figures' rows and columns, `labels` the order to show them in.
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


def _books(stage: str, report: Report) -> dict[str, Any] | None:
    """Return calls and cost of the stages that ask a language model."""
    books: dict[str, Any] | None = {
        "verify": report,
        "synthesize": report.get("llm"),
        "evaluate": report.get("decoder"),
    }.get(stage)
    return books if books and "calls" in books else None
