"""Answers of a trace store to JSONL and back, and by key: each stands under the key of its whole request."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import msgspec

from hybrid.errors import DataError, StorageError
from hybrid.files.table import read_rows, whole_file
from hybrid.llm.request import Reply, Request, key
from hybrid.llm.traces.cache import store_answer
from hybrid.llm.traces.database import TraceDatabase


class StoredAnswer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One line of an export: a question, the model that it was put to, and the answer."""

    key: str
    """`hybrid.llm.request.key` of model and request."""
    model: str
    request: Request
    reply: Reply


def export_traces(store: Path, target: Path, *, unreadable: bool = False) -> int:
    """Write all answers of a store, or those kept apart as unreadable, in the order of their keys; return how many.

    Raises:
        DataError: there is no such store.
    """
    table = "unreadable" if unreadable else "answers"
    rows = open_existing(store).read(f"SELECT key, model, request, reply FROM {table} ORDER BY key")
    encode = msgspec.json.Encoder().encode
    with whole_file(target) as file:
        for digest, model, request, reply in rows:
            raw = {"key": digest, "model": model, "request": msgspec.Raw(request), "reply": msgspec.Raw(reply)}
            file.write(encode(raw) + b"\n")
    return len(rows)


def stored_answers(store: Path, keys: Iterable[str]) -> dict[str, StoredAnswer]:
    """Look answers up by their keys; those that the store lacks are left out. Nothing is written.

    Raises:
        StorageError: the file is not a trace store.
    """
    if not store.is_file():
        return {}
    answers = {}
    try:
        with closing(sqlite3.connect(f"{store.resolve().as_uri()}?mode=ro", uri=True)) as db:
            for digest in keys:
                row = db.execute("SELECT model, request, reply FROM answers WHERE key = ?", (digest,)).fetchone()
                if row is not None:
                    request, reply = msgspec.json.decode(row[1], type=Request), msgspec.json.decode(row[2], type=Reply)
                    answers[digest] = StoredAnswer(key=digest, model=row[0], request=request, reply=reply)
    except (sqlite3.Error, msgspec.DecodeError) as error:
        raise StorageError(f"{store}: not a trace store ({error}); move it away") from error
    return answers


def open_existing(store: Path) -> TraceDatabase:
    """Open a trace store that exists.

    Raises:
        DataError: it does not.
    """
    if not store.is_file():
        raise DataError(f"{store}: no such trace store; expected the traces.sqlite beside the runs of a recipe")
    return TraceDatabase(store)


def import_traces(store: Path, source: Path) -> int:
    """Add the answers of a JSONL file to a store, all or none; return how many it lacked.

    Raises:
        DataError: a line is no answer, or its key is not that of its request.
    """
    if not source.is_file():
        raise DataError(f"{source}: no such file; expected the JSONL that `hybrid traces export` writes")
    answers = read_rows(source, StoredAnswer)
    for number, answer in enumerate(answers, start=1):
        if answer.key != key(answer.model, answer.request):
            raise DataError(
                f"{source}:{number}: the key is not that of its model and request; expected lines as they were exported: "
                "remove or mend it"
            )
        if answer.reply.status != "ok":
            raise DataError(
                f"{source}:{number}: the reply is {answer.reply.status!r}; expected answers alone: remove it"
            )
    file = TraceDatabase(store)
    before = _count(file)
    with file.transaction() as db:
        _store_all(db, answers)
    return _count(file) - before


def _store_all(db: sqlite3.Connection, answers: list[StoredAnswer]) -> None:
    for answer in answers:
        store_answer(db, answer.key, answer.model, answer.request, answer.reply)


def _count(file: TraceDatabase) -> int:
    return int(file.read("SELECT count(*) FROM answers")[0][0])
