"""What the decoder may cost an hour and a day: each call is booked at its worst before it is sent."""

import threading
import time

import sqlalchemy as sql
from sqlalchemy.exc import SQLAlchemyError

from hybrid.errors import BudgetError, ConfigError
from hybrid.llm.cost.pricing import NANO, Pricing
from hybrid.llm.request import Reply, Request
from hybrid.review.escalations import calls

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


class SpendCap:
    """The books of a decoder whose cost is capped. Safe across threads, and across services on one store.

    A call whose answer is lost stays at its worst, since only the provider knows whether it was billed; so does one that
    a killed process had sent. Both fall out of the window with time.
    """

    def __init__(
        self, engine: sql.Engine, terms: Pricing, *, usd_an_hour: float | None, usd_a_day: float | None
    ) -> None:
        """Keep the books in a review store.

        Raises:
            ConfigError: the price of the model is not known, so no cap could be held.
        """
        if terms.price is None or (terms.cache and terms.price.cache_write is None):
            raise ConfigError(
                f"decoder.usd_an_hour or usd_a_day: the price of {terms.model} is not known, so the cap could not be held; "
                "give it in a file that decoder.llm.prices names, or leave the cap out"
            )
        self.terms = terms
        self._engine = engine
        self._caps = [(s, int(usd * NANO)) for s, usd in ((HOUR_S, usd_an_hour), (DAY_S, usd_a_day)) if usd is not None]
        # One thread of this process at a time: SQLite's own wait is a poll.
        self._lock = threading.Lock()

    def reserve(self, request: Request) -> int:
        """Return the number of a call that may now be sent, booked at its worst.

        Raises:
            BudgetError: it could cross a cap, or it cannot be booked.
        """
        worst = self.terms.worst_nano(request)
        if worst is None:
            raise BudgetError("the decoder was not asked: no price is known for a prompt that may be so long")
        try:
            with self._lock, self._engine.connect() as db, db.begin():
                self._hold(db)
                now = time.time()
                for window_s, cap in self._caps:
                    if self._spent_nano(db, now - window_s) + worst > cap:
                        raise BudgetError(_says(window_s, cap))
                db.execute(calls.delete().where(calls.c.at < now - DAY_S))
                return int(db.execute(calls.insert().values(at=now, nano=worst).returning(calls.c.id)).scalar_one())
        except SQLAlchemyError as error:
            raise BudgetError(
                f"the decoder was not asked: its spending cannot be booked ({type(error).__name__})"
            ) from error

    def settle(self, call: int, request: Request, reply: Reply) -> None:  # noqa: ARG002 the seam's
        """Put what the call cost in the place of its worst; where that is not known the worst stays."""
        if reply.cost_usd is not None:
            self._set(call, round(reply.cost_usd * NANO))

    def free(self, call: int) -> None:
        """Give back what a call had reserved: it was not billed."""
        self._set(call, 0)

    def lose(self, call: int) -> None:
        """Leave a call at its worst: whether it was billed is not known."""

    def spent_usd(self, window_s: float) -> float:
        """Return what the calls of the last `window_s` seconds cost, open ones at their worst."""
        with self._engine.connect() as db:
            return self._spent_nano(db, time.time() - window_s) / NANO

    def _set(self, call: int, nano: int) -> None:
        try:
            with self._lock, self._engine.begin() as db:
                db.execute(calls.update().where(calls.c.id == call).values(nano=nano))
        except SQLAlchemyError:
            # It stays at its worst, which keeps the cap; the answer was paid for and must reach its caller.
            return

    def _spent_nano(self, db: sql.Connection, since: float) -> int:
        found = db.execute(sql.select(sql.func.coalesce(sql.func.sum(calls.c.nano), 0)).where(calls.c.at >= since))
        return int(found.scalar_one())

    def _hold(self, db: sql.Connection) -> None:
        """Hold the books alone until the transaction ends: another service may reserve at the same moment."""
        if db.dialect.name == "postgresql":
            db.execute(sql.text("LOCK TABLE decoder_calls IN EXCLUSIVE MODE"))
        else:
            # The first write of a transaction takes SQLite's one lock.
            db.execute(calls.delete().where(calls.c.id == -1))


def _says(window_s: float, cap: int) -> str:
    window = "hour" if window_s == HOUR_S else "day"
    return f"the decoder was not asked: the next call could cross its cap of {cap / NANO:g} USD an {window}".replace(
        "an day", "a day"
    )
