"""The books of every call: reserved at its worst before it is sent, settled when its answer is in."""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Condition
from typing import Protocol

import msgspec

from hybrid.errors import BudgetError
from hybrid.llm.client.messages_format import prompt_bytes
from hybrid.llm.cost.pricing import NANO, Pricing, Spent, refusal
from hybrid.llm.request import Reply, Request, key
from hybrid.llm.traces.cache import keep
from hybrid.llm.traces.database import TraceDatabase

_LOOK_AGAIN_S = 1.0


class CostLedger(Protocol):
    """What a client tells of each call that it makes."""

    @property
    def terms(self) -> Pricing:
        """On what terms calls are made."""

    def reserve(self, request: Request) -> int:
        """Return the number of a call that may now be sent."""

    def settle(self, call: int, request: Request, reply: Reply) -> None:
        """Note what the call cost, and keep its answer if it is ok."""

    def free(self, call: int) -> None:
        """Note that the call was not billed."""

    def lose(self, call: int) -> None:
        """Note that the call may have been billed and its answer never came."""


class NullLedger:
    """Notes nothing: for a model without a trace store and without a budget."""

    def __init__(self, terms: Pricing) -> None:
        self.terms = terms

    def reserve(self, request: Request) -> int:  # noqa: ARG002
        """Return a number that means nothing."""
        return 0

    def settle(self, call: int, request: Request, reply: Reply) -> None:
        """Do nothing."""

    def free(self, call: int) -> None:
        """Do nothing."""

    def lose(self, call: int) -> None:
        """Do nothing."""


class Ledger:
    """One role's calls in a trace file, shared with every process that has it open.

    A call counts at its worst from before it is sent until its answer is in. A call whose answer is
    lost, by a broken connection or a killed process, stays at its worst for good: nobody but the
    provider knows whether it was billed, so that is what keeps the budget from being crossed.
    """

    def __init__(self, file: TraceDatabase, terms: Pricing) -> None:
        self.file = file
        self.terms = terms
        self._in_flight = 0
        self._settled = Condition()

    def reserve(self, request: Request) -> int:
        """Return the number of a call that may now be sent; wait for calls in flight where they hold the rest.

        Raises:
            BudgetError: the call could cross the budget.
        """
        with self._settled:
            while (call := self._reserved(request)) is None:
                if not self._in_flight:
                    raise self.refusal(request)
                self._settled.wait(_LOOK_AGAIN_S)
            self._in_flight += 1
            return call

    def reserve_batch(self, requests: Sequence[Request]) -> tuple[int, int]:
        """Return the number of a new batch and how many of `requests`, from the first on, it may ask; 0 for none."""
        with self.file.transaction() as db:
            worst = [self.terms.worst_nano(request, batch=True) for request in requests]
            fit, total = 0, 0
            room = self._room(db)
            while fit < len(requests) and (room is None or total + (worst[fit] or 0) <= room):
                total += worst[fit] or 0
                fit += 1
            if not fit:
                return 0, 0
            values = (self.terms.role, self.terms.model, time.time())
            number = db.execute(
                "INSERT INTO batches (role, model, created_at, state) VALUES (?, ?, ?, 'submitting')", values
            ).lastrowid
            assert number is not None
            for request, worst_nano in zip(requests[:fit], worst, strict=False):
                self._insert(db, request, worst_nano, batch=number)
            return number, fit

    def settle(self, call: int, request: Request, reply: Reply) -> None:
        """Note what a call cost and keep its answer if it is ok, both or neither."""
        with self._landing() as db:
            self.settle_in(db, call, request, reply)

    def settle_in(self, db: sqlite3.Connection, call: int, request: Request, reply: Reply) -> None:
        """Do what `settle` does, within a transaction."""
        cost = None if reply.cost_usd is None else round(reply.cost_usd * NANO)
        self._close(db, call, "billed", cost)
        db.execute(
            "UPDATE calls SET status = ?, input_tokens = ?, output_tokens = ?, cache_write_tokens = ?, "
            "cache_read_tokens = ? WHERE id = ?",
            (
                reply.status,
                reply.input_tokens,
                reply.output_tokens,
                reply.cache_write_tokens,
                reply.cache_read_tokens,
                call,
            ),
        )
        if reply.status == "ok":
            keep(db, key(self.terms.model, request), self.terms.model, request, reply)

    def free(self, call: int) -> None:
        """Give back what a call had reserved: it was not billed."""
        with self._landing() as db:
            self.free_in(db, call)

    def free_in(self, db: sqlite3.Connection, call: int) -> None:
        """Do what `free` does, within a transaction."""
        self._close(db, call, "free", 0)

    def lose(self, call: int) -> None:
        """Leave a call at its worst: whether it was billed is not known."""
        with self._landing() as db:
            db.execute("UPDATE calls SET state = 'lost' WHERE id = ? AND state = 'sent'", (call,))

    def spent(self) -> Spent:
        """Return what this role's calls came to so far, those of other processes included."""
        rows = self.file.read(
            "SELECT state IN ('sent', 'lost'), count(*), sum(coalesce(cost_nano, worst_nano, 0)), sum(input_tokens), "
            "sum(output_tokens), sum(cache_write_tokens), sum(cache_read_tokens) FROM calls "
            "WHERE role = ? AND state != 'free' GROUP BY 1",
            (self.terms.role,),
        )
        spent = Spent()
        for is_open, count, nano, *tokens in rows:
            if is_open:
                spent = msgspec.structs.replace(spent, unsettled=count, unsettled_usd=nano / NANO)
            else:
                names = ("input_tokens", "output_tokens", "cache_write_tokens", "cache_read_tokens")
                found = dict(zip(names, tokens, strict=True))
                spent = msgspec.structs.replace(spent, calls=count, settled_usd=nano / NANO, **found)
        return spent

    def refusal(self, request: Request, *, batch: bool = False) -> BudgetError:
        """Return the error that says why a call is not sent."""
        return BudgetError(refusal(self.terms, self.spent(), self.terms.worst_nano(request, batch=batch) or 0))

    def _reserved(self, request: Request) -> int | None:
        worst = self.terms.worst_nano(request)
        with self.file.transaction() as db:
            room = self._room(db)
            if room is not None and (worst or 0) > room:
                return None
            return self._insert(db, request, worst)

    def _room(self, db: sqlite3.Connection) -> int | None:
        """Return what may still be reserved; None where there is no budget."""
        if self.terms.budget_usd is None:
            return None
        row = db.execute("SELECT nano FROM spent WHERE role = ?", (self.terms.role,)).fetchone()
        return int(self.terms.budget_usd * NANO) - (row[0] if row else 0)

    def _insert(self, db: sqlite3.Connection, request: Request, worst: int | None, batch: int | None = None) -> int:
        terms = self.terms
        digest = key(terms.model, request)
        # A batch may come back to another process, which has to know what was asked.
        asked = msgspec.json.encode(request).decode() if batch is not None else None
        values = (digest, terms.role, terms.model, batch, time.time(), prompt_bytes(request), worst, asked)
        self._add(db, worst or 0)
        call = db.execute(
            "INSERT INTO calls (key, role, model, batch, sent_at, bytes, state, worst_nano, request) "
            "VALUES (?, ?, ?, ?, ?, ?, 'sent', ?, ?)",
            values,
        ).lastrowid
        assert call is not None
        return call

    def _close(self, db: sqlite3.Connection, call: int, state: str, cost: int | None) -> None:
        """End a call that is open; one that another process ended stays as it is."""
        row = db.execute("SELECT worst_nano FROM calls WHERE id = ? AND state = 'sent'", (call,)).fetchone()
        if row is None:
            return
        db.execute("UPDATE calls SET state = ?, cost_nano = ? WHERE id = ?", (state, cost, call))
        if cost is not None:
            self._add(db, cost - (row[0] or 0))

    def _add(self, db: sqlite3.Connection, nano: int) -> None:
        db.execute(
            "INSERT INTO spent VALUES (?, ?) ON CONFLICT (role) DO UPDATE SET nano = nano + excluded.nano",
            (self.terms.role, nano),
        )

    @contextmanager
    def _landing(self) -> Iterator[sqlite3.Connection]:
        """Hold the file while a call in flight is ended; who waits for it hears of it, even if the disk is full."""
        try:
            with self.file.transaction() as db:
                yield db
        finally:
            with self._settled:
                self._in_flight -= 1
                self._settled.notify_all()
