"""The cost ledger of runs and of the service: a call is booked at its worst case before it is sent, and settled at its end.

The rules, the arithmetic and the wording are here. A store keeps the calls: `trace_ledger` for a run, in the SQLite file
of its answers, and `serving.decoder.spend_cap` for a service, in SQLite or PostgreSQL.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from threading import Condition
from typing import Generic, Protocol, TypeVar

from hybrid.errors import BudgetError
from hybrid.llm.cost.pricing import NANO, Limit, Pricing, Spent
from hybrid.llm.request import Reply, Request

RUN_ADVICE = "raise {setting}, lower max_tokens or ask less (see --estimate), then run again: every answer is kept"
"""What the user of a run can do after its budget stopped it."""
_LOOK_AGAIN_S = 1.0


class CostLedger(Protocol):
    """The ledger to which a client reports each of its calls."""

    @property
    def pricing(self) -> Pricing:
        """What a call may cost, and the limits."""

    def reserve(self, request: Request) -> int:
        """Return the number of a call that may now be sent.

        Raises:
            BudgetError: the call could cross a limit.
        """

    def settle(self, call: int, request: Request, reply: Reply) -> None:
        """Note what the call cost."""

    def free(self, call: int) -> None:
        """Note that the call was not billed."""

    def lose(self, call: int) -> None:
        """Note that the call may have been billed although its answer never arrived."""


class NullLedger:
    """A ledger that records nothing, for a model without a store and without a limit."""

    def __init__(self, pricing: Pricing) -> None:
        self.pricing = pricing

    def reserve(self, request: Request) -> int:  # noqa: ARG002
        """Return a number without meaning."""
        return 0

    def settle(self, call: int, request: Request, reply: Reply) -> None:
        """Do nothing."""

    def free(self, call: int) -> None:
        """Do nothing."""

    def lose(self, call: int) -> None:
        """Do nothing."""


class LedgerRows(Protocol):
    """The calls of one role while a transaction holds the store alone. A call that has ended is never changed again."""

    def spent_nano(self, since: float | None) -> int:
        """Add up the calls sent from `since` (seconds since 1970) on; None: all calls. Unsettled ones are at their worst."""

    def insert(self, request: Request, worst_nano: int | None, at: float) -> int:
        """Book a call that is about to be sent, at its worst, and return its number."""

    def settle(self, call: int, request: Request, reply: Reply) -> None:
        """Put what the call cost in the place of its worst; where that is not known the worst stays."""

    def free(self, call: int) -> None:
        """Set the cost of the call to 0."""

    def lose(self, call: int) -> None:
        """End the call at its worst."""


class LedgerStore(Protocol):
    """Keeps the calls of one role, shared by threads, processes and, with a database server, by machines."""

    def transaction(self) -> AbstractContextManager[LedgerRows]:
        """Hold the store alone until the block ends; an error undoes what the block did.

        Raises:
            StorageError: the store cannot be used.
        """

    def spent(self, since: float | None) -> Spent:
        """Add up the calls sent from `since` on, those of other processes included; None: all calls."""


Store = TypeVar("Store", bound=LedgerStore)


class Ledger(Generic[Store]):
    """The calls of one role. Safe across threads and over everything that shares the store.

    A call counts at its worst from before it is sent until its answer is in. A call whose answer is lost, by a broken
    connection or a killed process, stays at its worst for good: nobody but the provider knows whether it was billed, so
    that is what keeps a limit from being crossed.
    """

    def __init__(
        self,
        store: Store,
        pricing: Pricing,
        *,
        waits: bool = True,
        advice: str = RUN_ADVICE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Keep the limits of `pricing` over the calls of a store.

        Args:
            waits: whether `reserve` waits while calls in flight may give back what they hold, as a run does; a service
                refuses at once.
            advice: what the refusal tells the user to do; `{setting}` is the limit's setting.
        """
        self.store = store
        self.pricing = pricing
        self._limits = pricing.limits()
        self._waits = waits
        self._advice = advice
        self._clock = clock
        self._in_flight = 0
        self._ended = Condition()

    def reserve(self, request: Request) -> int:
        """Return the number of a call that may now be sent.

        Raises:
            BudgetError: the call could cross a limit.
            StorageError: the store cannot be used.
        """
        with self._ended:
            while (call := self._reserved(request)) is None:
                if not (self._waits and self._in_flight):
                    raise self.refusal(request)
                self._ended.wait(_LOOK_AGAIN_S)
            self._in_flight += 1
            return call

    def settle(self, call: int, request: Request, reply: Reply) -> None:
        """Note what a call cost; a store that holds answers keeps an ok one, both or neither."""
        with self._ending() as rows:
            rows.settle(call, request, reply)

    def free(self, call: int) -> None:
        """Give back what a call had reserved: it was not billed."""
        with self._ending() as rows:
            rows.free(call)

    def lose(self, call: int) -> None:
        """Leave a call at its worst: whether it was billed is not known."""
        with self._ending() as rows:
            rows.lose(call)

    def spent(self, window_s: float | None = None) -> Spent:
        """Add up the calls of the last `window_s` seconds; None: all calls."""
        return self.store.spent(None if window_s is None else self._clock() - window_s)

    def refusal(self, request: Request, *, batch: bool = False) -> BudgetError:
        """Build the error that explains why a call is not sent: the limit it could exceed, and how much of that is spent."""
        worst_nano = self.pricing.worst_nano(request, batch=batch) or 0
        limit, spent = self._tightest()
        window = f" in the last {limit.window}" if limit.window else ""
        lost = f" and up to {spent.unsettled_usd:.4f} USD for {spent.unsettled} calls without an answer"
        advice = f"; {self._advice.format(setting=limit.setting)}" if self._advice else ""
        return BudgetError(
            f"{limit.setting} = {limit.usd:g}: {spent.settled_usd:.4f} USD are spent{window}"
            f"{lost if spent.unsettled else ''}, and the next call could cost {worst_nano / NANO:.4f} USD{advice}"
        )

    def how_many_fit(self, rows: LedgerRows, costs_nano: Sequence[int]) -> int:
        """Count how many of the calls, from the first on, may be reserved together."""
        remaining_nano = [limit.nano - rows.spent_nano(self._since(limit)) for limit in self._limits]
        total = 0
        for number, cost_nano in enumerate(costs_nano):
            total += cost_nano
            if any(total > limit_nano for limit_nano in remaining_nano):
                return number
        return len(costs_nano)

    def _reserved(self, request: Request) -> int | None:
        worst_nano = self.pricing.worst_nano(request)
        if worst_nano is None and self._limits:
            raise BudgetError(f"{self._limits[0].setting}: no price is known for a prompt that may be so long")
        with self.store.transaction() as rows:
            if not self.how_many_fit(rows, [worst_nano or 0]):
                return None
            return rows.insert(request, worst_nano, self._clock())

    def _tightest(self) -> tuple[Limit, Spent]:
        """Find the limit with the least left, and what is spent of it."""
        pairs = [(limit, self.spent(limit.window_s)) for limit in self._limits]
        return min(pairs, key=lambda pair: pair[0].usd - pair[1].settled_usd - pair[1].unsettled_usd)

    def _since(self, limit: Limit) -> float | None:
        return None if limit.window_s is None else self._clock() - limit.window_s

    @contextmanager
    def _ending(self) -> Iterator[LedgerRows]:
        """Hold the store while a call in flight ends; a thread that waits for its end continues even if the disk is full."""
        try:
            with self.store.transaction() as rows:
                yield rows
        finally:
            with self._ended:
                self._in_flight -= 1
                self._ended.notify_all()
