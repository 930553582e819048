"""Argilla 2: write records for `dataset.records.from_json`, and read records with their answers.

`records.to_json` leaves out whether an answer was submitted, discarded or is a draft. `records.to_list(flatten=True)`,
`records.to_dict(flatten=True)` and `records.to_datasets()` keep it.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from hybrid.errors import DataError
from hybrid.files.table import write_json
from hybrid.review.answer_files import Entries
from hybrid.review.answers import Answer, AnswerFile, ReviewItem, is_drawn, key_of

QUESTION = "label"
RECORD_FIELDS = frozenset({"id", "fields", "metadata", "suggestions", "responses", "vectors"})
"""The fields of a record as it is exported to Argilla."""
_RESPONSES, _USERS, _STATUS = ".responses", ".responses.users", ".responses.status"


class _Response(msgspec.Struct, frozen=True):
    value: str | list[Any] | dict[str, Any] | float | None = None
    user_id: str | None = None
    """Missing, or the word None, once the user was deleted."""
    status: str | None = None
    """submitted, discarded or draft."""


class _Record(msgspec.Struct, frozen=True):
    id: str
    fields: dict[str, Any] = {}
    responses: dict[str, list[_Response] | None] | None = None


def write_records(items: Sequence[ReviewItem], labels: Sequence[str], path: Path) -> list[str]:
    """Write the records and return instructions for the user."""
    write_json(path, [_record(item) for item in items])
    answers = path.with_name(f"{path.stem}-answers.json")
    return [
        "  import json, argilla as rg",
        '  settings = rg.Settings(fields=[rg.TextField("text"), rg.TextField("reason", required=False),',
        '      rg.TextField("why", required=False)],',
        f'      questions=[rg.LabelQuestion("{QUESTION}", labels={list(labels)!r})],',
        '      metadata=[rg.TermsMetadataProperty("given"), rg.TermsMetadataProperty("where"),',
        '      rg.FloatMetadataProperty("gain")])',
        '  dataset = rg.Dataset("review", settings=settings).create()',
        f'  dataset.records.from_json("{path}")',
        "  label, write the answers with their status (records.to_json leaves it out), and read them with: "
        "hybrid review read RUN FILE",
        f'  json.dump(dataset.records.to_list(flatten=True), open("{answers}", "w"))',
    ]


def read_records(file: Entries) -> AnswerFile:
    """Read the answers in nested records; drafts and discarded responses do not count.

    Raises:
        DataError: an entry is not a record, a response has no status, or it has several labels.
    """
    return _answers(file, [_nested(raw, file.where(position)) for position, raw in enumerate(file.entries)])


def read_flat_records(file: Entries) -> AnswerFile:
    """Read the answers in records that were flattened, as `records.to_list(flatten=True)` does.

    Raises:
        DataError: as in `read_records`.
    """
    return _answers(file, [_flat(raw, file.where(position)) for position, raw in enumerate(file.entries)])


def _answers(file: Entries, records: Sequence[_Record]) -> AnswerFile:
    answers: list[Answer] = []
    unanswered, skipped = 0, 0
    others: dict[str, None] = {}
    for position, record in enumerate(records):
        responses = (record.responses or {}).get(QUESTION) or []
        of_record = list(_submitted(record, responses, file.where(position)))
        answers += of_record
        if not of_record:
            was_discarded = any(response.status == "discarded" for response in responses)
            skipped += was_discarded
            unanswered += not was_discarded
        others.update(dict.fromkeys(name for name, given in (record.responses or {}).items() if given))
    others.pop(QUESTION, None)
    return AnswerFile(
        answers=answers, unanswered=unanswered, skipped=skipped, question=QUESTION, other_questions=tuple(others)
    )


def _submitted(record: _Record, responses: Sequence[_Response], where: str) -> Iterator[Answer]:
    for number, response in enumerate(responses, start=1):
        if response.value is None:
            continue
        if response.status is None:
            raise DataError(
                f"{where}: a response without a status, which records.to_json leaves out, so a discarded answer looks "
                "like a submitted one; write the records with json.dump(dataset.records.to_list(flatten=True), file)"
            )
        if response.status != "submitted":
            continue
        if not isinstance(response.value, str):
            raise DataError(f"{where}: the answer {response.value!r}; expected one label: correct it in Argilla")
        is_known = response.user_id not in (None, "", "None")
        who = str(response.user_id) if is_known else f"response {number} of {record.id}"
        yield Answer(
            id=record.id,
            label=response.value,
            who=who,
            text_key=key_of(record.fields.get("text")),
            drawn=is_drawn(record.fields.get("why")),
        )


def _nested(raw: dict[str, Any], where: str) -> _Record:
    try:
        return msgspec.convert(raw, _Record)
    except msgspec.ValidationError as error:
        raise DataError(f"{where}: {error}; expected a record of Argilla") from error


def _flat(raw: dict[str, Any], where: str) -> _Record:
    questions = [name.removesuffix(_RESPONSES) for name in raw if name.endswith(_RESPONSES)]
    responses: dict[str, list[dict[str, object]]] = {}
    for question in questions:
        columns = [raw.get(question + suffix) for suffix in (_RESPONSES, _USERS, _STATUS)]
        if any(isinstance(column, str) for column in columns):
            raise DataError(
                f"{where}: a csv cannot hold the lists of answers that Argilla writes; export the records as JSON with "
                "json.dump(dataset.records.to_list(flatten=True), file)"
            )
        values, users, statuses = (column or [] for column in columns)
        users, statuses = users or [None] * len(values), statuses or [None] * len(values)
        responses[question] = [
            {"value": value, "user_id": user, "status": status}
            for value, user, status in zip(values, users, statuses, strict=True)
        ]
    return _nested(
        {"id": raw["id"], "fields": {name: raw.get(name) for name in ("text", "why")}, "responses": responses}, where
    )


def _record(item: ReviewItem) -> dict[str, Any]:
    suggestion = {"value": item.label, "score": item.belief, "agent": "decided"}
    return {
        "id": item.id,
        "fields": {"text": item.text, "reason": item.reason or "no teacher voted", "why": item.why},
        "metadata": {"given": item.given, "gain": item.gain} | ({"where": item.where} if item.where else {}),
        "suggestions": {QUESTION: suggestion},
        "responses": {},
        "vectors": {},
    }
