"""The journal of batches in a trace file: which were submitted, under which id, and which are still open."""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from hybrid.files.locks import file_lock
from hybrid.llm.batches.results import Result
from hybrid.llm.cost.trace_ledger import TraceStore
from hybrid.llm.request import Request
from hybrid.llm.traces.database import TraceDatabase


class OpenBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch whose results have not arrived yet."""

    number: int
    """The batch's number in the trace file."""
    batch_id: str | None
    """The provider's id; None where the process ended, or lost the connection, before it received one."""
    created_at: float
    """The time just before its submission, in seconds since 1970."""
    calls: dict[str, int]
    """The numbers of its open calls in the ledger, by key of their request."""


@contextmanager
def only_submitter(file: TraceDatabase) -> Iterator[None]:
    """Let one process at a time submit batches, so that no other mistakes an unfinished submission for a crashed one."""
    if file.path is None:
        yield
        return
    with file_lock(file.path.with_name(file.path.name + ".batches.lock")):
        yield


def open_batches(store: TraceStore) -> list[OpenBatch]:
    """Read the role's open batches, oldest first, those of other processes included."""
    rows = store.file.read(
        "SELECT b.id, b.batch_id, b.created_at, c.key, c.id FROM batches b LEFT JOIN calls c "
        "ON c.batch = b.id AND c.state = 'sent' WHERE b.role = ? AND b.model = ? AND b.state != 'ended' ORDER BY b.id",
        (store.role, store.model),
    )
    batches: dict[int, OpenBatch] = {}
    for number, batch_id, created_at, digest, call in rows:
        batch = batches.setdefault(number, OpenBatch(number=number, batch_id=batch_id, created_at=created_at, calls={}))
        if call is not None:
            batch.calls[digest] = call
    return list(batches.values())


def requests_of(store: TraceStore, batch: OpenBatch) -> dict[str, Request]:
    """Read the requests of a batch that have no result yet, by key."""
    rows = store.file.read("SELECT key, request FROM calls WHERE batch = ? AND state = 'sent'", (batch.number,))
    return {digest: msgspec.json.decode(request, type=Request) for digest, request in rows}


def known_ids(file: TraceDatabase) -> set[str]:
    """Read the provider's ids of all batches in the file."""
    return {batch_id for (batch_id,) in file.read("SELECT batch_id FROM batches WHERE batch_id IS NOT NULL")}


def note_id(file: TraceDatabase, number: int, batch_id: str) -> None:
    """Note the id under which the provider has a batch."""
    with file.transaction() as db:
        db.execute("UPDATE batches SET batch_id = ?, state = 'submitted' WHERE id = ?", (batch_id, number))


def drop(store: TraceStore, batch: OpenBatch) -> None:
    """Give back what a batch had reserved: the provider never got it."""
    with store.transaction() as rows:
        for call in batch.calls.values():
            rows.free(call)
        _end(rows.db, batch)


def settle(store: TraceStore, batch: OpenBatch, requests: Mapping[str, Request], results: Sequence[Result]) -> None:
    """Record how requests of a batch ended, and store the ok answers, in one transaction."""
    with store.transaction() as rows:
        for result in results:
            call, request = batch.calls.get(result.key), requests.get(result.key)
            if call is None or request is None or not rows.is_open(call):
                continue
            if result.reply is not None:
                rows.settle(call, request, result.reply)
            else:
                (rows.lose if result.billed else rows.free)(call)


def close(store: TraceStore, batch: OpenBatch) -> None:
    """End a batch. A call without a result stays booked at its worst case."""
    with store.transaction() as rows:
        rows.db.execute("UPDATE calls SET state = 'lost' WHERE batch = ? AND state = 'sent'", (batch.number,))
        _end(rows.db, batch)


def _end(db: sqlite3.Connection, batch: OpenBatch) -> None:
    db.execute("UPDATE batches SET state = 'ended' WHERE id = ?", (batch.number,))
    # The requests were kept to name the answers after a crash.
    db.execute("UPDATE calls SET request = NULL WHERE batch = ?", (batch.number,))
