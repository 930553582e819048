"""The last lines on the screen: what came out, where it lies, what to do next."""

from pathlib import Path
from typing import Any

import msgspec


def closing_lines(folder: Path) -> list[str]:
    """Return the closing lines of a finished run, every figure from its `summary.json`."""
    summary = msgspec.json.decode((folder / "summary.json").read_bytes())
    return [
        "",
        *_labels(summary),
        *_scores(summary),
        _calibration(summary),
        _threshold(summary),
        "",
        f"  report  {folder / 'report.html'}",
        f"  bundle  {folder / 'bundle'}",
        f'  try     python -m hybrid predict {folder / "bundle"} "your text"',
    ]


def _labels(summary: dict[str, Any]) -> list[str]:
    labels = summary["labels"]
    if labels["wrong_given"] is None:
        return ["  wrong training labels: cannot be known without gold"]
    return [f"  wrong training labels  {labels['wrong_given']:.1%} as given, {labels['wrong_cleaned']:.1%} cleaned"]


def _scores(summary: dict[str, Any]) -> list[str]:
    n_seeds = len(summary["seeds"])
    what = "gold" if summary["trusted"] else "given labels, for want of gold"
    title = f"  on {summary['rows']['test']} test rows ({what}), mean of {n_seeds} seed{'s' * (n_seeds > 1)}"
    lines = [f"{title:<58} accuracy  macro-F1"]
    for variant, scores in summary["test"].items():
        if scores:
            name = f"{variant} (ships)" if variant == summary["served"] else variant.replace("_", " ")
            lines.append(f"    {name:<54} {scores['accuracy']:8.3f}  {scores['macro_f1']:8.3f}")
    at = summary["threshold"]["test"]
    if at["answered"]:
        recorded = "recorded " if "decoder" in summary["llm"]["recorded"] else ""
        name = f"with {at['escalated']} rows escalated to the {recorded}decoder"
        lines.append(f"    {name:<54} {at['accuracy']:8.3f}  {at['macro_f1']:8.3f}")
    return lines


def _calibration(summary: dict[str, Any]) -> str:
    c = summary["calibration"]
    return (
        f"  calibration ({c['method']})  ECE {c['ece_before']:.3f} before, {c['ece_after']:.3f} after "
        f"(a perfect model: {c['ece_null_mean']:.3f}, at most {c['ece_null95']:.3f} in 95 %)"
    )


def _threshold(summary: dict[str, Any]) -> str:
    t = summary["threshold"]
    if not t["met"]:
        needed = f"; about {t['rows_needed']} calibration rows would" if t["rows_needed"] else ""
        return f"  threshold  {summary['rows']['calibration']} rows cannot promise {t['target']:.0%}{needed}: all escalates"
    kept = t["test"]["accuracy_kept"]
    return (
        f"  threshold  {t['value']:.3f} promises {t['target']:.0%} of what is kept, with probability {1 - t['delta']:.0%}; "
        f"on test it keeps {t['test']['kept']:.0%}" + (f", right in {kept:.1%}" if kept is not None else "")
    )
