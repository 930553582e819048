"""How far a newcomer has to read: the modules that one training row passes through, from the file to the bundle."""

import csv
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

import msgspec
import pytest

import hybrid
from hybrid.files.table import write_rows
from hybrid.llm.traces.recorded import Trace, text_digest
from hybrid.pipeline.context import RunContext
from hybrid.pipeline.run import Run
from hybrid.pipeline.stages import run_stages
from hybrid.progress import Screen
from hybrid.recipe_files.read import read_recipe
from tests.conftest import write_project

MOST_MODULES = 39
PACKAGE = Path(hybrid.__file__).parent
MARK = "quixotic"
"""A word that stands in one training row alone."""


def holds(value: object, depth: int = 3) -> bool:
    """Whether a value is the marked row, or a row, list or mapping that holds it."""
    if isinstance(value, str):
        return MARK in value
    if not depth:
        return False
    if isinstance(value, msgspec.Struct):
        return any(holds(getattr(value, name), depth - 1) for name in value.__struct_fields__)
    if isinstance(value, Mapping):
        return any(holds(part, depth - 1) for part in value.values())
    if isinstance(value, list | tuple):
        return any(holds(part, depth - 1) for part in value)
    return False


class RowPath:
    """The modules of ours that are called with the marked row."""

    def __init__(self) -> None:
        self.modules: set[str] = set()

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        if event != "call":
            return
        file = Path(frame.f_code.co_filename)
        if not file.is_relative_to(PACKAGE):
            return
        module = str(file.relative_to(PACKAGE))
        if module in self.modules:
            return
        code = frame.f_code
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        if any(holds(frame.f_locals.get(name)) for name in names):
            self.modules.add(module)


def recorded(data: Path) -> list[Trace]:
    """A teacher's recorded answers: the label as given, for every row."""
    with data.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [
        Trace(id=str(i), text_sha256=text_digest(row["text"]), rationale="It says so.", label=row["label"])
        for i, row in enumerate(rows)
    ]


@pytest.mark.slow
def test_one_training_row_passes_through_few_modules(
    bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe_file = write_project(tmp_path / "dishes", bert)
    data = tmp_path / "dishes" / "data.csv"
    lines = data.read_text().splitlines()
    lines.append(f"A {MARK} soup of lentils with far too much salt in it,bad,")
    data.write_text("\n".join(lines) + "\n")
    write_rows(tmp_path / "dishes" / "traces.jsonl", recorded(data))
    teacher = {"model": "recorded", "traces": "traces.jsonl"}
    recipe = read_recipe(recipe_file, overrides={"train": {"epochs": 1}, "teacher": teacher})
    context = RunContext(recipe, recipe_file.parent, Run(tmp_path / "run", Screen()), tmp_path / "traces.sqlite")
    trace = RowPath()
    sys.setprofile(trace)
    try:
        run_stages(context)
    finally:
        sys.setprofile(None)
    assert any(MARK in row.text for row in context.rows("train"))
    with capsys.disabled():
        head = f"\none training row passes through {len(trace.modules)} modules (at most {MOST_MODULES}):"
        sys.stdout.write("\n  ".join([head, *sorted(trace.modules)]) + "\n")
    assert {
        "stages/split.py",
        "teacher/vote_collection.py",
        "labels/cleaning.py",
        "encoders/training.py",
    } <= trace.modules
    assert len(trace.modules) <= MOST_MODULES, sorted(trace.modules)
