"""Label Studio: write tasks with predictions, and read its JSON export (labelstud.io/guide/task_format)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import msgspec

from hybrid.errors import DataError
from hybrid.files.table import write_bytes, write_json
from hybrid.review.answers import Answer, AnswerFile, ReviewItem, key_of

QUESTION = "label"
ROW = "row_id"


class _Value(msgspec.Struct, frozen=True):
    choices: list[str] = []


class _Result(msgspec.Struct, frozen=True):
    from_name: str = ""
    value: _Value = _Value()


class _Annotation(msgspec.Struct, frozen=True):
    result: list[_Result] = []
    was_cancelled: bool = False
    completed_by: object = ""
    updated_at: str = ""
    created_at: str = ""


class _Task(msgspec.Struct, frozen=True):
    data: dict[str, Any]
    annotations: list[_Annotation] = []


def write_tasks(items: Sequence[ReviewItem], labels: Sequence[str], path: Path) -> list[str]:
    """Write the tasks, and beside them the labelling interface they need; return instructions for the user."""
    write_json(path, [_task(item) for item in items])
    interface = path.with_suffix(".xml")
    write_bytes(interface, _interface(labels).encode())
    return [
        f"  make a Label Studio project with the labelling interface in {interface}, import {path} there,",
        "  label, export as JSON, and read it back with: review read",
    ]


def read_tasks(tasks: Sequence[object], path: Path) -> AnswerFile:
    """Read the answers in a JSON export; skipped and empty annotations do not count.

    Raises:
        DataError: a task has no row id, or an annotation chose several labels.
    """
    answers, unanswered = [], 0
    for number, raw in enumerate(tasks, start=1):
        task = _decoded(raw, path, number)
        of_task = [answer for annotation in task.annotations for answer in _answers(task, annotation, path, number)]
        answers += of_task
        unanswered += not of_task
    return AnswerFile(answers=answers, unanswered=unanswered)


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
</View>
"""


def _decoded(raw: object, path: Path, number: int) -> _Task:
    try:
        task = msgspec.convert(raw, _Task)
    except msgspec.ValidationError as error:
        raise DataError(f"{path}: task {number}: {error}; expected Label Studio's JSON export") from error
    if not isinstance(task.data.get(ROW), str):
        raise DataError(f"{path}: task {number}: no {ROW} in its data; expected tasks that review export wrote")
    return task


def _answers(task: _Task, annotation: _Annotation, path: Path, number: int) -> list[Answer]:
    chosen = [label for result in annotation.result if result.from_name == QUESTION for label in result.value.choices]
    if annotation.was_cancelled or not chosen:
        return []
    if len(chosen) > 1:
        raise DataError(
            f"{path}: task {number}: {len(chosen)} labels in one annotation; expected one: correct it in Label Studio"
        )
    annotator = annotation.completed_by
    who = annotator.get("email") or annotator.get("id") if isinstance(annotator, dict) else annotator
    when = annotation.updated_at or annotation.created_at
    key = key_of(task.data.get("text"))
    return [Answer(id=task.data[ROW], label=chosen[0], who=str(who), when=when, text_key=key)]
