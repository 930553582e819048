"""The ledger's store for runs: the calls of one role, in the SQLite file that holds the answers too."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from hybrid.llm.cost.ledger import Ledger
from hybrid.llm.cost.pricing import NANO, Pricing, Spent
from hybrid.llm.messages_format import TOKEN_FIELDS, prompt_bytes
from hybrid.llm.request import Reply, Request, key
from hybrid.llm.traces.cache import store_answer
from hybrid.llm.traces.database import TraceDatabase


class TraceRows:
    """The calls of one role while a transaction holds the file: `hybrid.llm.cost.ledger.LedgerRows`."""

    def __init__(self, db: sqlite3.Connection, role: str, model: str) -> None:
        self.db = db
        self._role = role
        self._model = model

    def spent_nano(self, since: float | None) -> int:
        """Add up the calls sent from `since` on; None: all calls."""
        if since is None:
            row = self.db.execute("SELECT nano FROM spent WHERE role = ?", (self._role,)).fetchone()
            return int(row[0]) if row else 0
        row = self.db.execute(
            "SELECT coalesce(sum(coalesce(cost_nano, worst_nano, 0)), 0) FROM calls "
            "WHERE role = ? AND sent_at >= ? AND state != 'free'",
            (self._role, since),
        ).fetchone()
        return int(row[0])

    def insert(self, request: Request, worst_nano: int | None, at: float) -> int:
        """Book a call that is about to be sent, at its worst, and return its number."""
        return self._insert(request, worst_nano, at, None)

    def insert_batch(self, requests: Sequence[Request], worst_nano: Sequence[int | None], at: float) -> int:
        """Book a batch that is about to be handed over, and return its number."""
        batch = self.db.execute(
            "INSERT INTO batches (role, model, created_at, state) VALUES (?, ?, ?, 'submitting')",
            (self._role, self._model, at),
        ).lastrowid
        assert batch is not None
        for request, worst in zip(requests, worst_nano, strict=True):
            self._insert(request, worst, at, batch)
        return batch

    def is_open(self, call: int) -> bool:
        """Whether a call has not ended yet."""
        return bool(self.db.execute("SELECT 1 FROM calls WHERE id = ? AND state = 'sent'", (call,)).fetchall())

    def settle(self, call: int, request: Request, reply: Reply) -> None:
        """Put what the call cost in the place of its worst, and keep the answer if there is one."""
        self._end(call, "billed", None if reply.cost_usd is None else round(reply.cost_usd * NANO))
        tokens = [getattr(reply, name) for name in TOKEN_FIELDS]
        columns = ", ".join(f"{name} = ?" for name in ("status", *TOKEN_FIELDS))
        self.db.execute(f"UPDATE calls SET {columns} WHERE id = ?", (reply.status, *tokens, call))
        if reply.status in ("ok", "unreadable"):
            store_answer(self.db, key(self._model, request), self._model, request, reply)

    def free(self, call: int) -> None:
        """Set the cost of the call to 0: it was not billed."""
        self._end(call, "free", 0)

    def lose(self, call: int) -> None:
        """End the call at its worst."""
        self._end(call, "lost", None)

    def _insert(self, request: Request, worst_nano: int | None, at: float, batch: int | None) -> int:
        # Another process may receive the results of a batch, and needs its requests.
        encoded = None if batch is None else msgspec.json.encode(request).decode()
        self._add(worst_nano or 0)
        call = self.db.execute(
            "INSERT INTO calls (key, role, model, batch, sent_at, bytes, state, worst_nano, request) "
            "VALUES (?, ?, ?, ?, ?, ?, 'sent', ?, ?)",
            (key(self._model, request), self._role, self._model, batch, at, prompt_bytes(request), worst_nano, encoded),
        ).lastrowid
        assert call is not None
        return call

    def _end(self, call: int, state: str, cost_nano: int | None) -> None:
        """End an open call; a call that another process has ended stays unchanged."""
        row = self.db.execute("SELECT worst_nano FROM calls WHERE id = ? AND state = 'sent'", (call,)).fetchone()
        if row is None:
            return
        self.db.execute("UPDATE calls SET state = ?, cost_nano = ? WHERE id = ?", (state, cost_nano, call))
        if cost_nano is not None:
            self._add(cost_nano - (row[0] or 0))

    def _add(self, nano: int) -> None:
        self.db.execute(
            "INSERT INTO spent VALUES (?, ?) ON CONFLICT (role) DO UPDATE SET nano = nano + excluded.nano",
            (self._role, nano),
        )


class TraceStore:
    """One role's calls in a trace file: `hybrid.llm.cost.ledger.LedgerStore`."""

    def __init__(self, file: TraceDatabase, *, role: str, model: str) -> None:
        self.file = file
        self.role = role
        self.model = model

    @contextmanager
    def transaction(self) -> Iterator[TraceRows]:
        """Hold the file alone, in this process and all others, until the block ends."""
        with self.file.transaction() as db:
            yield TraceRows(db, self.role, self.model)

    def spent(self, since: float | None = None) -> Spent:
        """Add up the calls sent from `since` on, those of other processes included; None: all calls."""
        rows = self.file.read(
            f"SELECT state IN ('sent', 'lost'), count(*), sum(coalesce(cost_nano, worst_nano, 0)), "
            f"{', '.join(f'sum({name})' for name in TOKEN_FIELDS)} FROM calls "
            "WHERE role = ? AND sent_at >= ? AND state != 'free' GROUP BY 1",
            (self.role, since or 0.0),
        )
        spent = Spent()
        for is_unsettled, count, nano, *tokens in rows:
            if is_unsettled:
                spent = msgspec.structs.replace(spent, unsettled=count, unsettled_usd=nano / NANO)
            else:
                counts = dict(zip(TOKEN_FIELDS, tokens, strict=True))
                spent = msgspec.structs.replace(spent, calls=count, settled_usd=nano / NANO, **counts)
        return spent


RunLedger = Ledger[TraceStore]


def run_ledger(file: TraceDatabase, pricing: Pricing) -> RunLedger:
    """The ledger of one role of a run, on its trace file."""
    return Ledger(TraceStore(file, role=pricing.role, model=pricing.model), pricing)


def reserve_batch(ledger: RunLedger, requests: Sequence[Request]) -> tuple[int, int]:
    """Return the number of a new batch and how many of `requests`, from the first on, it may ask; 0 for none."""
    worst_nano = [ledger.pricing.worst_nano(request, batch=True) for request in requests]
    with ledger.store.transaction() as rows:
        n_fit = ledger.how_many_fit(rows, [worst or 0 for worst in worst_nano])
        if not n_fit:
            return 0, 0
        return rows.insert_batch(requests[:n_fit], worst_nano[:n_fit], time.time()), n_fit
