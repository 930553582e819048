"""Label Studio: write tasks with predictions, and read its exports: JSON, JSON-MIN, csv and tsv.

Their forms are those of labelstud.io/guide/task_format and labelstud.io/guide/export.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import msgspec

from hybrid.errors import DataError
from hybrid.files.table import write_bytes, write_json
from hybrid.review.answer_files import Entries
from hybrid.review.answers import Answer, AnswerFile, ReviewItem, is_drawn, key_of

QUESTION = "label"
ROW = "row_id"


class _Result(msgspec.Struct, frozen=True):
    from_name: str = ""
    value: dict[str, Any] = {}


class _Annotation(msgspec.Struct, frozen=True):
    id: int | str | None = None
    result: list[_Result] | None = None
    was_cancelled: bool = False
    completed_by: object = None
    """The annotator's id, or an object with the email; None once the user was deleted."""
    updated_at: str | None = None
    created_at: str | None = None


class _Task(msgspec.Struct, frozen=True):
    data: dict[str, Any]
    annotations: list[_Annotation] | None = None


class _FlatAnnotation(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the csv or tsv export, or an entry of JSON-MIN: one annotation, its answers beside the task's data."""

    row_id: str | int
    annotation_id: object = None
    annotator: object = None
    text: str = ""
    why: object = ""
    updated_at: str | None = None
    label: object = None


TASK_FIELDS = frozenset({"data", "predictions"})
"""The fields of a task as it is exported to Label Studio."""
_DATA_FIELDS = frozenset({ROW, "text", "given", "decided", "teacher", "reason", "why", "gain", "where"})
_FLAT_FIELDS = _DATA_FIELDS | {
    "id",
    "annotation_id",
    "annotator",
    "created_at",
    "updated_at",
    "lead_time",
    "agreement",
    "history",
    QUESTION,
}
FLAT_FORM = (ROW, "annotation_id")
"""The fields by which the flat exports are recognised."""


def write_tasks(items: Sequence[ReviewItem], labels: Sequence[str], path: Path) -> list[str]:
    """Write the tasks, and beside them the labelling interface they need; return instructions for the user."""
    interface, content = path.with_suffix(".xml"), _interface(labels).encode()
    if interface.exists() and interface.read_bytes() != content:
        raise DataError(f"{interface}: this file is there already and differs; choose another name, or move it away")
    write_json(path, [_task(item) for item in items])
    write_bytes(interface, content)
    return [
        f"  make a Label Studio project with the labelling interface in {interface}, import {path} there,",
        "  label, export as JSON (or JSON-MIN, csv or tsv), and read it back with: hybrid review read RUN FILE",
    ]


def read_tasks(file: Entries) -> AnswerFile:
    """Read the answers in a JSON export; skipped and empty annotations do not count.

    Raises:
        DataError: an entry is no task or has no row id, or an annotation chose several labels.
    """
    answers: list[Answer] = []
    unanswered, skipped = 0, 0
    others: dict[str, None] = {}
    for position, raw in enumerate(file.entries):
        task = _decoded(raw, file.where(position))
        annotations = task.annotations or []
        of_task = [_answer(task, annotation, file.where(position)) for annotation in annotations]
        answered = [answer for answer in of_task if answer is not None]
        answers += answered
        if not answered:
            was_skipped = any(annotation.was_cancelled for annotation in annotations)
            skipped += was_skipped
            unanswered += not was_skipped
        names = (result.from_name for annotation in annotations for result in annotation.result or [])
        others.update(dict.fromkeys(name for name in names if name and name != QUESTION))
    return AnswerFile(
        answers=answers, unanswered=unanswered, skipped=skipped, question=QUESTION, other_questions=tuple(others)
    )


def read_flat(file: Entries) -> AnswerFile:
    """Read the answers in a csv, tsv or JSON-MIN export, in which the task's own `id` is not that of the row.

    Annotations that were skipped are not in these exports.

    Raises:
        DataError: an entry is no annotation, or an annotation chose several labels.
    """
    answers, open_rows = [], set()
    others: dict[str, None] = {}
    for position, raw in enumerate(file.entries):
        where = file.where(position)
        try:
            entry = msgspec.convert(raw, _FlatAnnotation)
        except msgspec.ValidationError as error:
            raise DataError(f"{where}: {error}; expected Label Studio's csv, tsv or JSON-MIN export") from error
        label = _flat_label(entry.label, where)
        if label:
            who = _annotator(entry.annotator, entry.annotation_id, position)
            key, when = key_of(entry.text), entry.updated_at or ""
            drawn = is_drawn(entry.why)
            answers.append(Answer(id=str(entry.row_id), label=label, who=who, when=when, text_key=key, drawn=drawn))
        else:
            open_rows.add(str(entry.row_id))
        others.update(dict.fromkeys(name for name, value in raw.items() if name not in _FLAT_FIELDS and value))
    open_rows -= {answer.id for answer in answers}
    return AnswerFile(answers=answers, unanswered=len(open_rows), question=QUESTION, other_questions=tuple(others))


def _task(item: ReviewItem) -> dict[str, Any]:
    predictions = [_prediction("decided", item.label, item.belief)]
    if item.teacher_label:
        predictions.append(_prediction(item.teacher, item.teacher_label, item.teacher_confidence))
    data = {
        ROW: item.id,
        "text": item.text,
        "given": item.given,
        "decided": item.label,
        "teacher": item.teacher_label,
        "reason": item.reason,
        "why": item.why,
        "where": item.where,
        "gain": item.gain,
    }
    return {"data": data, "predictions": predictions}


def _prediction(version: str, label: str, score: float | None) -> dict[str, Any]:
    result = {"from_name": QUESTION, "to_name": "text", "type": "choices", "value": {"choices": [label]}}
    return {"model_version": version, "result": [result]} | ({} if score is None else {"score": score})


def _interface(labels: Sequence[str]) -> str:
    choices = "\n".join(f"    <Choice value={quoteattr(label)}/>" for label in labels)
    return f"""<View>
  <Text name="text" value="$text"/>
  <Choices name="{QUESTION}" toName="text" choice="single-radio" required="true">
{choices}
  </Choices>
  <Header value="What the teacher said" size="5"/>
  <Text name="reason" value="$reason"/>
  <Header value="Why this row" size="5"/>
  <Text name="why" value="$why"/>
</View>
"""


def _decoded(raw: object, where: str) -> _Task:
    try:
        task = msgspec.convert(raw, _Task)
    except msgspec.ValidationError as error:
        raise DataError(f"{where}: {error}; expected Label Studio's JSON export") from error
    if not isinstance(task.data.get(ROW), str | int):
        raise DataError(f"{where}: no {ROW} in its data; expected tasks that review export wrote")
    return task


def _answer(task: _Task, annotation: _Annotation, where: str) -> Answer | None:
    """Return the answer to the question; None if the annotation was skipped or has none."""
    results = [result for result in annotation.result or [] if result.from_name == QUESTION]
    chosen = [label for result in results for label in result.value.get("choices") or []]
    if annotation.was_cancelled or not chosen:
        return None
    if len(chosen) > 1:
        raise _several(len(chosen), where)
    return Answer(
        id=str(task.data[ROW]),
        label=str(chosen[0]),
        who=_annotator(annotation.completed_by, annotation.id, id(annotation)),
        when=annotation.updated_at or annotation.created_at or "",
        text_key=key_of(task.data.get("text")),
        drawn=is_drawn(task.data.get("why")),
    )


def _flat_label(value: object, where: str) -> str:
    """Return the label of a flat annotation; empty if there is none. Several labels come as a list or an object."""
    is_json = isinstance(value, str) and value.startswith(('{"', '["'))
    if isinstance(value, dict | list) or is_json:
        raise _several(len(value) if isinstance(value, list) else 2, where)
    return "" if value is None else str(value).strip()


def _several(n_labels: int, where: str) -> DataError:
    return DataError(f"{where}: {n_labels} labels in one annotation; expected one: correct it in Label Studio")


def _annotator(annotator: object, annotation_id: object, position: int) -> str:
    """Name a person; the annotator of an annotation is unknown once the user was deleted, and is then a person each time."""
    if isinstance(annotator, dict):
        annotator = annotator.get("email") or annotator.get("id")
    if annotator in (None, "", "None"):
        return f"annotation {position if annotation_id is None else annotation_id}"
    return str(annotator)
