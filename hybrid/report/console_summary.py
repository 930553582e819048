"""The summary printed after a run: its figures, where the report and the bundle are, and what to try next."""

from pathlib import Path
from typing import Any

import msgspec


def closing_lines(folder: Path) -> list[str]:
    """Format the summary; every figure comes from the run's `summary.json`."""
    summary = msgspec.json.decode((folder / "summary.json").read_bytes())
    return [
        "",
        *_labels(summary),
        *_scores(summary),
        *_calibration(summary),
        _threshold(summary),
        "",
        f"  report  {folder / 'report.html'}",
        f"  bundle  {folder / 'bundle'}{_portable(summary)}",
        f'  try     hybrid predict {folder / "bundle"} "your text"',
    ]


def _portable(summary: dict[str, Any]) -> str:
    """Which graphs a portable bundle carries; empty for one with a single graph."""
    precision = summary["precision"]
    fallback = precision.get("fallback")
    return f" ({precision['served']}, and {fallback['precision']} for other machines)" if fallback else ""


def _labels(summary: dict[str, Any]) -> list[str]:
    labels = summary["labels"]
    if labels["wrong_given"] is None:
        return ["  wrong training labels  unknown without gold labels"]
    return [f"  wrong training labels  {labels['wrong_given']:.1%} as given, {labels['wrong_cleaned']:.1%} cleaned"]


def _scores(summary: dict[str, Any]) -> list[str]:
    n_seeds = len(summary["seeds"])
    judged_by = "gold" if summary["judged_by_gold"] else "labels as given"
    title = f"  on {summary['rows']['test']} test rows ({judged_by}), mean of {n_seeds} seed{'s' * (n_seeds > 1)}"
    lines = [f"{title:<58} accuracy  macro-F1"]
    for variant, scores in summary["test"].items():
        if scores:
            name = f"{variant} (served)" if variant == summary["served"] else variant.replace("_", " ")
            lines.append(f"    {name:<54} {scores['accuracy']:8.3f}  {scores['macro_f1']:8.3f}")
    cascade = summary["threshold"]["test"]
    if cascade["answered"]:
        recorded = "recorded " if "decoder" in summary["llm"]["recorded"] else ""
        name = f"with {cascade['escalated']} rows escalated to the {recorded}decoder"
        lines.append(f"    {name:<54} {cascade['accuracy']:8.3f}  {cascade['macro_f1']:8.3f}")
    return lines


def _calibration(summary: dict[str, Any]) -> list[str]:
    figures = summary["calibration"]
    lines = [
        f"  calibration ({figures['method']})  ECE {figures['ece_before']:.3f} before, {figures['ece_after']:.3f} after "
        f"(noise alone: up to {limit_of(figures):.3f}; if the probabilities were perfect: {figures['ece_null95']:.3f})"
    ]
    if figures.get("basis") == "given":
        lines.append(
            "    not calibrated: calibration rows lack gold labels, and the noise of their labels cannot be estimated; "
            "the report says what would help"
        )
    return lines


def limit_of(figures: dict[str, Any]) -> float:
    """The calibration error up to which a run is judged calibrated; runs of earlier versions lack the refitted one."""
    limit: float = figures["ece_null95"] if figures.get("ece_refit95") is None else figures["ece_refit95"]
    return limit


def _threshold(summary: dict[str, Any]) -> str:
    threshold, n_rows = summary["threshold"], summary["rows"]["calibration"]
    if not threshold["met"]:
        needed = f" (about {threshold['rows_needed']} would)" if threshold["rows_needed"] else ""
        return (
            f"  threshold  every row escalates: {n_rows} calibration rows cannot guarantee "
            f"{threshold['target']:.0%} accuracy{needed}"
        )
    test = threshold["test"]
    return (
        f"  threshold  {threshold['value']!r} guarantees {threshold['target']:.0%} accuracy of the encoder's own answers "
        f"with probability {1 - threshold['delta']:.0%}; on test it answers {test['kept']:.0%}"
        + (f", {test['accuracy_kept']:.1%} of them right" if test["accuracy_kept"] is not None else "")
    )
