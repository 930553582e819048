"""Students of a recipe outside its plain run: one by itself, or several that differ in one thing, compared on the same rows."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from msgspec.structs import replace

from hybrid.config import StudentConfig
from hybrid.errors import ConfigError
from hybrid.evaluation.intervals import mean_difference
from hybrid.files.links import link_or_copy
from hybrid.files.table import read_rows, write_json
from hybrid.llm.student.layouts import LAYOUTS
from hybrid.pipeline.context import RunContext
from hybrid.pipeline.run import Run
from hybrid.pipeline.stages import run_stage
from hybrid.stages.clean import CLEAN
from hybrid.stages.split import SPLIT
from hybrid.stages.student import STUDENT, STUDENT_FILE
from hybrid.stages.verify import VERIFY
from hybrid.student.altered_reasons import parse_alterations
from hybrid.student.judging import JudgedRow
from hybrid.types import Report

COMPARISONS = {"layouts": "student-layouts", "reasons": "student-reasons"}
"""The folder of a comparison in the run, by what its students differ in."""
AS_THEY_ARE = "as they are"
"""The name of the student whose reasons are not altered."""
_BEFORE = (SPLIT, VERIFY, CLEAN)


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """What the students of a comparison differ in, and the settings of each by its name; the first is what others are held against."""

    of: Literal["layouts", "reasons"]
    students: dict[str, StudentConfig]


def train_student(context: RunContext) -> Path:
    """Bring a recipe's student up to date, with the stages that it learns from; its rows are split. Return its file."""
    for stage in (VERIFY, CLEAN, STUDENT):
        run_stage(stage, context)
    return context.run.path(STUDENT_FILE)


def of_layouts(config: StudentConfig, layouts: Sequence[str]) -> Comparison:
    """Compare layouts.

    Raises:
        ConfigError: there is no such layout.
    """
    if unknown := [name for name in layouts if name not in LAYOUTS]:
        raise ConfigError(f"student: --compare {unknown[0]}: no such layout; expected some of {', '.join(LAYOUTS)}")
    return Comparison(of="layouts", students={name: replace(config, layout=name) for name in layouts})


def of_reasons(config: StudentConfig, alterations: Sequence[str]) -> Comparison:
    """Compare students of altered reasons with one of the reasons as they are, all in the recipe's layout.

    Raises:
        ConfigError: there is no such alteration, or the layout trains no reasons.
    """
    if config.layout == "direct":
        raise ConfigError("student: --ablate: layout 'direct' trains no reasons; set student.layout to another one")
    for how in alterations:
        parse_alterations(how)
    altered = {how: replace(config, altered=how) for how in alterations}
    return Comparison(of="reasons", students={AS_THEY_ARE: replace(config, altered=""), **altered})


def compare_students(context: RunContext, comparison: Comparison, n_seeds: int) -> Report:
    """Train one student a name and seed on the same split and traces, and test the differences from the first.

    What is finished is not trained again. The seed of the split stays: rows are the same, so that the tests are paired.
    """
    for stage in (VERIFY, CLEAN):
        run_stage(stage, context)
    folder = COMPARISONS[comparison.of]
    students = {
        name: [_student_of(context, folder, name, config, context.recipe.seed + step) for step in range(n_seeds)]
        for name, config in comparison.students.items()
    }
    right = {name: _right(of_name) for name, of_name in students.items()}
    first, level = next(iter(students)), context.recipe.evaluate.interval
    report: Report = {
        "students": [
            {
                "name": name,
                "seeds": [seed for seed, _ in of_name],
                "gain": msgspec.to_builtins(mean_difference(right[name], right[first], level=level))
                if name != first
                else None,
            }
            for name, of_name in students.items()
        ],
        "against": first,
        "rows": int(right[first].shape[1]),
    }
    write_json(context.run.path(folder, "report.json"), report)
    return report


def compare_lines(report: Report) -> list[str]:
    """Format a comparison as a table for the screen."""
    head = f"{'':<24} {'accuracy':>8} {'macro-F1':>8} {'ECE':>6} {'ms':>7} {'goes on':>7} {'steps':>6} {'tokens':>8}"
    lines = [
        f"{report['rows']} test rows, means over the seeds",
        f"{head}  accuracy against {report['against']}, in points",
    ]
    for row in report["students"]:
        tests, gain = [seed["test"] for seed in row["seeds"]], row["gain"]
        talks = [test["goes_on_talking"] for test in tests]
        mean = {name: np.mean([test[name] for test in tests]) for name in ("accuracy", "macro_f1", "ece", "ms_a_text")}
        size = {name: np.mean([seed[name] for seed in row["seeds"]]) for name in ("steps", "tokens")}
        against = f"{100 * gain['value']:+.2f} [{100 * gain['low']:+.2f}, {100 * gain['high']:+.2f}]" if gain else "-"
        lines.append(
            f"{row['name']:<24} {mean['accuracy']:8.3f} {mean['macro_f1']:8.3f} {mean['ece']:6.3f} {mean['ms_a_text']:7.1f} "
            f"{'-' if None in talks else f'{np.mean(talks):.0%}':>7} {size['steps']:6.0f} {size['tokens']:8.0f}  {against}"
        )
    return lines


def _student_of(
    context: RunContext, comparison: str, name: str, config: StudentConfig, seed: int
) -> tuple[Report, list[JudgedRow]]:
    """Train one student in a folder of its own beside the run's stages; return its report and its answers."""
    folder = context.run.path(comparison, f"{re.sub(r'[^a-z0-9_.]+', '-', name)}-{seed}")
    for stage in _BEFORE:
        for file in sorted(context.run.path(stage.name).glob("*.json*")):
            target = folder / stage.name / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            link_or_copy(str(file), str(target))
    recipe = replace(context.recipe, student=config, seed=seed)
    beside = RunContext(recipe, context.recipe_dir, Run(folder, context.run.screen), context.traces)
    context.run.screen.say(f"{name}, seed {seed}")
    run_stage(STUDENT, beside)
    return beside.report(STUDENT.name), read_rows(folder / "student" / "judged.jsonl", JudgedRow)


def _right(of_name: Sequence[tuple[Report, list[JudgedRow]]]) -> np.ndarray:
    """Which rows each seed's student got right [seeds, n]."""
    return np.array([[row.label == row.gold for row in rows] for _, rows in of_name])
