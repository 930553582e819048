"""Limits what the decoder of a service may cost, by a ledger in the review store (SQLite or PostgreSQL)."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import sqlalchemy as sql
from sqlalchemy.exc import SQLAlchemyError

from hybrid.errors import BudgetError, StorageError
from hybrid.llm.cost.ledger import Ledger
from hybrid.llm.cost.pricing import DAY_S, NANO, Pricing, Spent
from hybrid.llm.request import Reply, Request
from hybrid.review.escalations import calls

_LONG_AGO = 0.0
"""The time of the row that has the sum of all calls that are older than every window."""


class UnbookedCallError(BudgetError):
    """A call that is not sent because its cost cannot be booked: it might cross a limit unseen."""


class CallRows:
    """The decoder's calls while a transaction holds the store: `hybrid.llm.cost.ledger.LedgerRows`."""

    def __init__(self, db: sql.Connection) -> None:
        self._db = db

    def spent_nano(self, since: float | None) -> int:
        """Add up the calls sent from `since` on; None: all calls."""
        total = sql.select(sql.func.coalesce(sql.func.sum(calls.c.nano), 0))
        return int(self._db.execute(total if since is None else total.where(calls.c.at >= since)).scalar_one())

    def insert(self, request: Request, worst_nano: int | None, at: float) -> int:  # noqa: ARG002 the ledger's protocol
        """Book a call that is about to be sent, at its worst, and return its number."""
        self._add_up_before(at - DAY_S)
        row = calls.insert().values(at=at, nano=worst_nano or 0).returning(calls.c.id)
        return int(self._db.execute(row).scalar_one())

    def settle(self, call: int, request: Request, reply: Reply) -> None:  # noqa: ARG002 the ledger's protocol
        """Put what the call cost in the place of its worst; where that is not known the worst stays."""
        if reply.cost_usd is not None:
            self._set(call, round(reply.cost_usd * NANO))

    def free(self, call: int) -> None:
        """Set the cost of the call to 0: it was not billed."""
        self._set(call, 0)

    def lose(self, call: int) -> None:
        """Leave the call at its worst, as it was booked."""

    def _set(self, call: int, nano: int) -> None:
        self._db.execute(calls.update().where(calls.c.id == call).values(nano=nano))

    def _add_up_before(self, at: float) -> None:
        """Keep the sum of the calls that are out of every window, in one row."""
        is_old = (calls.c.at < at) & (calls.c.at > _LONG_AGO)
        costs_nano = self._db.execute(calls.delete().where(is_old).returning(calls.c.nano)).scalars().all()
        if not costs_nano:
            return
        add = calls.update().where(calls.c.at == _LONG_AGO).values(nano=calls.c.nano + sum(costs_nano))
        if not self._db.execute(add).rowcount:
            self._db.execute(calls.insert().values(at=_LONG_AGO, nano=sum(costs_nano)))


class CallStore:
    """The decoder's calls in a review store, shared by all services on it: `hybrid.llm.cost.ledger.LedgerStore`."""

    def __init__(self, engine: sql.Engine) -> None:
        self._engine = engine
        # One thread of this process at a time: SQLite waits for another by polling.
        self._lock = threading.Lock()

    @contextmanager
    def transaction(self) -> Iterator[CallRows]:
        """Hold the table alone until the block ends; another service may reserve at the same moment.

        Raises:
            StorageError: the store cannot be used.
        """
        try:
            with self._lock, self._engine.begin() as db:
                if db.dialect.name == "postgresql":
                    db.execute(sql.text("LOCK TABLE decoder_calls IN EXCLUSIVE MODE"))
                else:
                    # The first write of a transaction takes SQLite's one lock.
                    db.execute(calls.delete().where(calls.c.id == -1))
                yield CallRows(db)
        except SQLAlchemyError as error:
            raise StorageError(f"the decoder's spending cannot be booked ({type(error).__name__})") from error

    def spent(self, since: float | None = None) -> Spent:
        """Add up the calls sent from `since` on, unsettled ones at their worst; None: all calls."""
        try:
            with self._engine.connect() as db:
                return Spent(settled_usd=CallRows(db).spent_nano(since) / NANO)
        except SQLAlchemyError as error:
            raise StorageError(f"the decoder's spending cannot be read ({type(error).__name__})") from error


class SpendCap:
    """Keeps a service's decoder within its limits, also while the store does not answer: `CostLedger`."""

    def __init__(self, engine: sql.Engine, pricing: Pricing) -> None:
        """Keep the ledger in a review store."""
        self.pricing = pricing
        self.ledger = Ledger(CallStore(engine), pricing, waits=False, advice="")

    def reserve(self, request: Request) -> int:
        """Return the number of a call that may now be sent, booked at its worst.

        Raises:
            BudgetError: the call could cross a limit. The message has amounts, so it is for the operator alone.
            UnbookedCallError: the call cannot be booked.
        """
        try:
            return self.ledger.reserve(request)
        except BudgetError as error:
            raise BudgetError(f"the decoder was not asked: {error}") from error
        except StorageError as error:
            raise UnbookedCallError(f"the decoder was not asked: {error}") from error

    # A call that cannot be settled stays at its worst, which keeps the limit; its answer was paid for and must reach
    # the caller.
    def settle(self, call: int, request: Request, reply: Reply) -> None:
        """Note what the call cost."""
        with suppress(StorageError):
            self.ledger.settle(call, request, reply)

    def free(self, call: int) -> None:
        """Note that the call was not billed."""
        with suppress(StorageError):
            self.ledger.free(call)

    def lose(self, call: int) -> None:
        """Note that the call may have been billed although its answer never arrived."""
        with suppress(StorageError):
            self.ledger.lose(call)
