"""Argilla 2: write records for `dataset.records.from_json`, and read what `dataset.records.to_json` wrote."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from hybrid.errors import DataError
from hybrid.files.table import write_json
from hybrid.review.answers import Answer, AnswerFile, ReviewItem, key_of

QUESTION = "label"
NO_ANSWER = ("draft", "discarded")


class _Response(msgspec.Struct, frozen=True):
    value: str | None = None
    user_id: str = ""
    status: str = "submitted"
    """`to_json` omits it; a table exported to the hub has it."""


class _Record(msgspec.Struct, frozen=True):
    id: str
    fields: dict[str, Any] = {}
    responses: dict[str, list[_Response]] = {}


def write_records(items: Sequence[ReviewItem], labels: Sequence[str], path: Path) -> list[str]:
    """Write the records and return instructions for the user."""
    write_json(path, [_record(item) for item in items])
    return [
        "  import argilla as rg",
        '  settings = rg.Settings(fields=[rg.TextField("text"), rg.TextField("reason", required=False)],',
        f'      questions=[rg.LabelQuestion("{QUESTION}", labels={list(labels)!r})],',
        '      metadata=[rg.TermsMetadataProperty("given"), rg.FloatMetadataProperty("gain")])',
        f'  rg.Dataset("review", settings=settings).create().records.from_json("{path}")',
        "  label, write dataset.records.to_json(FILE), and read it back with: review read",
    ]


def read_records(records: Sequence[object], path: Path) -> AnswerFile:
    """Read the answers in records; drafts and discarded responses do not count.

    Raises:
        DataError: an entry is not a record.
    """
    answers, unanswered = [], 0
    for number, raw in enumerate(records, start=1):
        try:
            record = msgspec.convert(raw, _Record)
        except msgspec.ValidationError as error:
            raise DataError(
                f"{path}: record {number}: {error}; expected what dataset.records.to_json writes"
            ) from error
        key = key_of(record.fields.get("text"))
        submitted = [
            Answer(id=record.id, label=response.value, who=response.user_id, text_key=key)
            for response in record.responses.get(QUESTION, [])
            if response.value is not None and response.status not in NO_ANSWER
        ]
        answers += submitted
        unanswered += not submitted
    return AnswerFile(answers=answers, unanswered=unanswered)


def _record(item: ReviewItem) -> dict[str, Any]:
    suggestion = {"value": item.label, "score": item.belief, "agent": "decided"}
    return {
        "id": item.id,
        "fields": {"text": item.text, "reason": item.reason or "no teacher voted"},
        "metadata": {"given": item.given, "gain": item.gain},
        "suggestions": {QUESTION: suggestion},
        "responses": {},
        "vectors": {},
    }
