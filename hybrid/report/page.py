"""`report.html`: the whole result of a run in one file that loads nothing from elsewhere."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from markupsafe import Markup

from hybrid.evaluation.metrics import ReliabilityBin, reliability_bins, risk_coverage
from hybrid.evaluation.set_metrics import as_one_label
from hybrid.files.table import read_rows
from hybrid.label_sets import index_by_label, label_matrix
from hybrid.pipeline.context import RunContext
from hybrid.pipeline.stages import STAGE_NAMES as STAGES
from hybrid.report import figures
from hybrid.report.examples import doubted_rows, draft_examples, thinned
from hybrid.report.step_gains import steps, variant_name
from hybrid.report.templates import source, template
from hybrid.runtime.calibration import Calibration, decide, sigmoid, softmax
from hybrid.types import Epoch, Judged, Report, Task, Vote

MOST_LABELS_DRAWN = 24
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


def render_page(story: RunContext, summary: Report, *, made_from: str) -> str:
    """Render the page. `made_from` is the fingerprint of what it was made from, kept in its head."""
    run = story.run
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
        description=story.recipe.description,
        recipe=story.recipe,
        labels=story.presented_labels,
        reports=reports,
        steps=steps(summary, reports),
        rows=_doubted(story),
        drafts=draft_examples(story.drafts()),
        history=history,
        scores=_scores(summary),
        training_precision=_training_precision(reports["train"]),
        mistakes=_mistakes(reports["evaluate"], story.labels, story.presented_labels)
        if story.recipe.task == "single_label"
        else None,
        stages=[(stage, reports[stage]["seconds"], _books(stage, reports[stage])) for stage in STAGES],
        bundle=msgspec.json.decode(run.path("bundle", "bundle.json").read_bytes()),
        drawn=_drawn(summary, reports, judged, history, story.labels, story.recipe.task),
    )


def _training_precision(trained: Report) -> str:
    """Describe the training precision and what decided it; version 0.1.0 reported no reason."""
    parts = [trained["precision"]]
    if reason := trained.get("precision_reason"):
        error = trained["precision_error"]
        parts.append(PRECISION_REASONS[reason] + (f" ({error})" if error else ""))
    parts += [f"{name} {time:.3g} s a step" for name, time in trained["seconds_a_step_in_trial"].items()]
    return ", ".join(parts)


def _doubted(story: RunContext) -> dict[str, Any]:
    votes = read_rows(story.run.path("verify", "votes.jsonl"), Vote)
    gold = {row.id: row.label for row in story.gold()}
    rows = doubted_rows(story.rows("train"), story.decisions(), votes, gold)
    return {"total": len(rows), "shown": thinned(rows), "gold": any(row.gold is not None for row in rows)}


def _drawn(
    summary: Report,
    reports: Mapping[str, Report],
    judged: Sequence[Judged],
    history: Sequence[Epoch],
    labels: Sequence[str],
    task: Task,
) -> dict[str, Markup | None]:
    """Draw each figure as an svg element; None where there is nothing to draw."""
    before, after = _bins(judged, labels, task)
    confidence = np.array([row.confidence for row in judged])
    correct = np.array([row.label == row.gold for row in judged])
    threshold, clean = summary["threshold"], reports["clean"]
    variants, interval = _variants(summary)
    drawn = {
        "balance": figures.class_balance(clean["classes_before"], clean["classes_after"])
        if len(labels) <= MOST_LABELS_DRAWN
        else None,
        "losses": figures.losses(history) if history else None,
        "validation": figures.validation_f1(history) if history else None,
        "scores": figures.scores(variants, interval),
        "reliability": figures.reliability(before, after),
        "coverage": figures.coverage(risk_coverage(confidence, correct), threshold["test"], target=threshold["target"]),
        "cascade": figures.cascade(summary["cascade"], threshold["test"], len(judged)) if summary["cascade"] else None,
    }
    return {name: Markup(svg) if svg else None for name, svg in drawn.items()}


def _bins(
    judged: Sequence[Judged], labels: Sequence[str], task: Task
) -> tuple[list[ReliabilityBin], list[ReliabilityBin]]:
    """Return the points of the reliability diagram before and after calibration."""
    logits = np.array([row.logits for row in judged], dtype=np.float64)
    if task == "multi_label":
        gold = label_matrix([row.gold for row in judged], labels)
        before = decide(Calibration(activation="sigmoid"), sigmoid(logits))
        confidence = np.array([row.confidence for row in judged])
        before_and_after = (
            (before.confidence, (before.chosen == gold).all(axis=1)),
            (confidence, np.array([row.label == row.gold for row in judged])),
        )
        first, second = (reliability_bins(*as_one_label(*pair)) for pair in before_and_after)
        return first, second
    position = index_by_label(labels)
    gold_indices = np.array([position[row.gold] for row in judged])
    probs = np.array([row.probs for row in judged])
    return reliability_bins(softmax(logits), gold_indices), reliability_bins(probs, gold_indices)


def _scores(summary: Report) -> list[dict[str, Any]]:
    """Return the rows of the table of scores, one a variant."""
    rows = []
    for variant, scores in _encoders_first(summary).items():
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


def _variants(summary: Report) -> tuple[dict[str, list[float]], tuple[str, list[float]] | None]:
    """Return macro-F1 by variant and seed, and the bootstrap interval where one seed is all there is."""
    test = {name: scores for name, scores in _encoders_first(summary).items() if name != "without_twins"}
    served = test[summary["served"]]
    has_one_seed = len(summary["seeds"]) == 1
    return (
        {variant_name(name): scores["macro_f1_seeds"] for name, scores in test.items()},
        (variant_name(summary["served"]), served["macro_f1_interval"]) if has_one_seed else None,
    )


def _encoders_first(summary: Report) -> dict[str, dict[str, Any]]:
    """Return the variants that have scores: the served one, the same without leaked rows, the others, TF-IDF last."""
    test = {name: scores for name, scores in summary["test"].items() if scores}
    first = (summary["served"], "without_twins")
    order = sorted(test, key=lambda name: (name not in first, name.startswith("tfidf_"), name == "gold"))
    return {name: test[name] for name in order}


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
