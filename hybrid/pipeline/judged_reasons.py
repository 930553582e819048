"""`hybrid traces judge`: the reasons of a run's teacher, of a file or store of traces, or of a student, and their quality."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from hybrid.artifacts import model_folder
from hybrid.errors import DataError
from hybrid.files.table import read_rows
from hybrid.llm import backend_of
from hybrid.llm.request import Reply, Request
from hybrid.llm.tasks.label import label_request, read_vote
from hybrid.llm.traces.export import open_existing
from hybrid.pipeline.context import RunContext
from hybrid.stages.stage import VOTES
from hybrid.teacher.imported_votes import read_votes
from hybrid.teacher.reason_quality import MARKS, ReasonQuality, reason_quality
from hybrid.types import Example, Part, Vote

ENCODER = "packaged:all-MiniLM-L6-v2"
"""What measures similarity of meaning, whatever the run's encoder is: so that figures of several runs compare."""
PARTS: tuple[Part, ...] = ("train", "calibration", "test")
LINES = {
    "well_formed": "a label of the set, and a reason",
    "accuracy": "the label is gold",
    "agreement": "the label is the teacher's",
    "valid": "well-formed, and all quotes stand in the text",
    "length_ratio": "words, to the teacher's reason for the row",
    "similarity": "cosine to the teacher's reason for the row",
    "quoting": "reasons that quote something",
    "quote_precision": "quotes that stand in the text",
    "recoverable": "label found from the reason alone, without label words",
    "most_frequent": "the most frequent label, for comparison",
    "consistent": "the same label again, reason in sight",
}
"""What each measure of `ReasonQuality` says, for people."""


class JudgedReasons(msgspec.Struct, frozen=True, kw_only=True):
    """The quality of a set of reasons, and what the literature asks of some measures."""

    source: str
    quality: ReasonQuality
    marks: dict[str, str]


def judge_reasons(context: RunContext, traces: Path | None, student: Path | None, n_rows: int) -> JudgedReasons:
    """Judge the reasons of a student on test rows, of a file or store of traces, or of the run's teacher.

    Raises:
        DataError: no answer is about a row of the run.
        LLMError: the student cannot be loaded.
    """
    rows = context.rows()
    by_id = {row.id: row for row in rows}
    gold = {row.id: row.label for row in context.gold()}
    votes = _first(read_rows(context.run.path(VOTES.path), Vote))
    again: Callable[[str], str] | None = None
    if student is not None:
        source = str(student)
        shown = [row for row in rows if row.part == "test"][:n_rows]
        answers, again = _of_student(student, shown, context)
        teacher = votes | _recorded(context, shown)
    elif traces is not None:
        source, teacher = str(traces), votes
        answers = _of_store(traces, rows, context.labels) if traces.suffix == ".sqlite" else _of_file(traces, context)
    else:
        source, teacher, answers = str(context.folder), {}, list(votes.values())
    if not answers:
        raise DataError(
            f"{source}: no answer about a row of {context.folder}; expected answers with the texts of its rows"
        )
    quality = reason_quality(answers, by_id, context.labels, gold=gold, teacher=teacher, embed=_embed, again=again)
    return JudgedReasons(source=source, quality=quality, marks=MARKS if teacher else {})


def lines_of(judged: JudgedReasons) -> list[str]:
    """Format the measures, one a line, with what the literature asks beside those that it speaks of."""
    values = msgspec.to_builtins(judged.quality)
    lines = [f"{judged.source}: {values.pop('answers')} answers"]
    for name, value in values.items():
        figure = "not measured" if value is None else f"{value:.3f}"
        mark = f"  (the literature asks {judged.marks[name]})" if name in judged.marks else ""
        lines.append(f"  {name:<16}{figure:>13}  {LINES[name]}{mark}")
    return lines


def _embed(texts: Sequence[str]) -> np.ndarray:
    from hybrid.encoders.embed import embed

    return embed(model_folder(ENCODER), texts, max_length=128)


def _first(votes: Sequence[Vote]) -> dict[str, Vote]:
    """The first answer with a label for each row, by id."""
    first: dict[str, Vote] = {}
    for vote in votes:
        if vote.label is not None:
            first.setdefault(vote.id, vote)
    return first


def _of_file(file: Path, context: RunContext) -> list[Vote]:
    rows, folder = context.rows(), Path.cwd()
    return [vote for part in PARTS for vote in read_votes([str(file)], folder, rows, context.labels, part=part)]


def _of_store(store: Path, rows: Sequence[Example], labels: Sequence[str]) -> list[Vote]:
    """The store's answers to questions for a label, about texts of the run."""
    ids: dict[str, str] = {}
    for row in rows:
        ids.setdefault(row.text, row.id)
    votes = []
    for model, question, answer in open_existing(store).read("SELECT model, request, reply FROM answers ORDER BY key"):
        request = msgspec.json.decode(question, type=Request)
        properties = request.schema.get("properties")
        is_reasoned = isinstance(properties, dict) and {"label", "rationale"} <= properties.keys()
        if is_reasoned and request.text in ids:
            reply = msgspec.json.decode(answer, type=Reply)
            votes.append(read_vote(ids[request.text], reply, labels, teacher=model, sample=request.sample))
    return votes


def _of_student(path: Path, rows: Sequence[Example], context: RunContext) -> tuple[list[Vote], Callable[[str], str]]:
    """A student's answers with reasons, and what gives its label of any text."""
    from hybrid.llm.student.decoder import Student

    student, labels = Student(path), context.labels

    def again(text: str) -> str:
        probs = student.answer(text, labels).probs
        return labels[max(range(len(labels)), key=probs.__getitem__)]

    votes = []
    for number, row in enumerate(rows, start=1):
        reply = student.ask(label_request("verify", row.text, labels, context.recipe.decoder))
        votes.append(read_vote(row.id, reply, labels, teacher=student.name))
        context.run.screen.advance(number, len(rows))
    return votes, again


def _recorded(context: RunContext, rows: Sequence[Example]) -> dict[str, Vote]:
    """What a recorded teacher says about rows that it was never asked about; a live one is not asked, for it costs money."""
    config = context.recipe.teacher
    llm = None if backend_of(config).is_live else context.llm("teacher")
    if llm is None:
        return {}
    asked = ((row, llm.ask(label_request("verify", row.text, context.labels, config))) for row in rows)
    return _first([read_vote(row.id, reply, context.labels, teacher=llm.name) for row, reply in asked])
