"""Students of a recipe outside its plain run: one by itself, or one of each layout, compared on the same test rows."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from hybrid.evaluation.intervals import mean_difference
from hybrid.files.links import link_or_copy
from hybrid.files.table import read_rows, write_json
from hybrid.pipeline.context import RunContext
from hybrid.pipeline.run import Run
from hybrid.pipeline.stages import run_stage
from hybrid.stages.clean import CLEAN
from hybrid.stages.split import SPLIT
from hybrid.stages.student import STUDENT, STUDENT_FILE
from hybrid.stages.verify import VERIFY
from hybrid.student.judging import JudgedRow
from hybrid.types import Report

COMPARISON = "student-layouts"
"""The folder of a comparison, in the run."""
_BEFORE = (SPLIT, VERIFY, CLEAN)


def train_student(context: RunContext) -> Path:
    """Bring a recipe's student up to date, with the stages that it learns from; its rows are split. Return its file."""
    for stage in (VERIFY, CLEAN, STUDENT):
        run_stage(stage, context)
    return context.run.path(STUDENT_FILE)


def compare_layouts(context: RunContext, layouts: Sequence[str], n_seeds: int) -> Report:
    """Train one student a layout and seed on the same split and traces, and test the differences from the first layout.

    What is finished is not trained again. The seed of the split stays: rows are the same, so that the tests are paired.
    """
    for stage in (VERIFY, CLEAN):
        run_stage(stage, context)
    students = {
        layout: [_student_of(context, layout, context.recipe.seed + step) for step in range(n_seeds)]
        for layout in layouts
    }
    right = {layout: _right(of_layout) for layout, of_layout in students.items()}
    first, level = layouts[0], context.recipe.evaluate.interval
    report: Report = {
        "layouts": [
            {
                "layout": layout,
                "seeds": [seed for seed, _ in of_layout],
                "gain": msgspec.to_builtins(mean_difference(right[layout], right[first], level=level))
                if layout != first
                else None,
            }
            for layout, of_layout in students.items()
        ],
        "against": first,
        "rows": int(right[first].shape[1]),
    }
    write_json(context.run.path(COMPARISON, "report.json"), report)
    return report


def compare_lines(report: Report) -> list[str]:
    """Format a comparison as a table for the screen."""
    head = (
        f"{'layout':<12} {'accuracy':>8} {'macro-F1':>8} {'ECE':>6} {'ms':>7} {'goes on':>7} {'steps':>6} {'tokens':>8}"
    )
    lines = [
        f"{report['rows']} test rows, means over the seeds",
        f"{head}  accuracy against {report['against']}, in points",
    ]
    for row in report["layouts"]:
        tests, gain = [seed["test"] for seed in row["seeds"]], row["gain"]
        talks = [test["goes_on_talking"] for test in tests]
        mean = {name: np.mean([test[name] for test in tests]) for name in ("accuracy", "macro_f1", "ece", "ms_a_text")}
        size = {name: np.mean([seed[name] for seed in row["seeds"]]) for name in ("steps", "tokens")}
        against = f"{100 * gain['value']:+.2f} [{100 * gain['low']:+.2f}, {100 * gain['high']:+.2f}]" if gain else "-"
        lines.append(
            f"{row['layout']:<12} {mean['accuracy']:8.3f} {mean['macro_f1']:8.3f} {mean['ece']:6.3f} {mean['ms_a_text']:7.1f} "
            f"{'-' if None in talks else f'{np.mean(talks):.0%}':>7} {size['steps']:6.0f} {size['tokens']:8.0f}  {against}"
        )
    return lines


def _student_of(context: RunContext, layout: str, seed: int) -> tuple[Report, list[JudgedRow]]:
    """Train one student in a folder of its own beside the run's stages; return its report and its answers."""
    folder = context.run.path(COMPARISON, f"{layout}-{seed}")
    for stage in _BEFORE:
        for file in sorted(context.run.path(stage.name).glob("*.json*")):
            target = folder / stage.name / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            link_or_copy(str(file), str(target))
    student = msgspec.structs.replace(context.recipe.student, layout=layout)
    recipe = msgspec.structs.replace(context.recipe, student=student, seed=seed)
    beside = RunContext(recipe, context.recipe_dir, Run(folder, context.run.screen), context.traces)
    context.run.screen.say(f"{layout}, seed {seed}")
    run_stage(STUDENT, beside)
    return beside.report(STUDENT.name), read_rows(folder / "student" / "judged.jsonl", JudgedRow)


def _right(of_layout: Sequence[tuple[Report, list[JudgedRow]]]) -> np.ndarray:
    """Which rows each seed's student got right [seeds, n]."""
    return np.array([[row.label == row.gold for row in rows] for _, rows in of_layout])
