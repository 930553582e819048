"""Claude, and every server that speaks the Messages protocol, through the `anthropic` SDK."""

import math
import os
import time
from typing import Any

import msgspec
from msgspec import UNSET

from hybrid.errors import LLMError
from hybrid.llm.client.limiter import Limiter
from hybrid.llm.client.messages_format import is_message, read_message, to_params
from hybrid.llm.client.retry import CallFailure, Retry, failure_of
from hybrid.llm.client.total_timeout import within_timeout
from hybrid.llm.cost.ledger import CostLedger, NullLedger
from hybrid.llm.cost.prices import cost_usd
from hybrid.llm.cost.pricing import Pricing
from hybrid.llm.request import FailureKind, Reply, Request


class Messages:
    """A model behind the Messages protocol. The SDK's own retries are off: there is one policy, ours.

    Claude's key is ANTHROPIC_API_KEY. It is never sent to another server; one that wants a key
    gets HYBRID_LLM_API_KEY.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str = "",
        timeout_s: float = 60.0,
        workers: int = 8,
        retry: Retry = Retry(),  # noqa: B008 a frozen struct
        books: CostLedger | None = None,
    ) -> None:
        """Open a client; nothing is sent yet. At most `workers` calls are under way at once.

        Raises:
            LLMError: the package or the key is missing.
        """
        self.name = model
        self.where = base_url or "the Claude API"
        self.retry = retry
        self._books = books or NullLedger(Pricing(model=model))
        self.terms = self._books.pricing
        self._limiter = Limiter(workers)
        self._timeout_s = timeout_s
        self._speaks = False
        self.sdk = _sdk()
        self.broken = _broken()
        self.client = self.sdk.Anthropic(
            api_key=_key_for(model, base_url),
            base_url=base_url or None,
            timeout=timeout_s,
            max_retries=0,
            http_client=self.sdk.DefaultHttpxClient(event_hooks={"response": [within_timeout()]}),
        )

    def ask(self, request: Request, *, until: float = math.inf) -> Reply:
        """Return one answer, tried again only where that can help, and not beyond `until` (of `time.monotonic`).

        Raises:
            LLMError: the server refuses every request of this kind (no such model, a wrong key), or cannot be
                reached and never answered before.
            BudgetError: the call could cross the budget.
        """
        if unpriced := self.unpriced(request):
            return unpriced
        started = time.monotonic()
        for number in range(1, self.retry.tries + 1):
            came = self._try(request, until)
            if isinstance(came, Reply):
                return msgspec.structs.replace(came, seconds=time.monotonic() - started)
            wait_s = self.retry.wait_s(number, came.asked_s)
            hopeless = not came.can_pass or wait_s > self.retry.longest_wait_s or number == self.retry.tries
            if hopeless or time.monotonic() + wait_s >= until:
                return self._give_up(came, number, time.monotonic() - started)
            time.sleep(wait_s)
        raise AssertionError("at least one try")

    def unpriced(self, request: Request) -> Reply | None:
        """Return the reply to a request whose worst case no price covers, where there is a budget to hold."""
        if self.terms.budget_usd is None or self.terms.worst_nano(request) is not None:
            return None
        reason = "not sent: no price is known for a prompt that may be so long; shorten the text"
        return self.failed(FailureKind.NO_PRICE, reason)

    def params(self, request: Request) -> dict[str, Any]:
        """Return the body of a request as the protocol has it."""
        return to_params(request, self.name, cache=self.terms.cache)

    def read(self, message: Any, *, batch: bool = False) -> Reply:
        """Return the reply that a message is, with its cost."""
        reply = read_message(message, self.name)
        cost = cost_usd(self.terms.price, reply, batch=batch) if message.usage else None
        return msgspec.structs.replace(reply, cost_usd=cost)

    def failed(self, kind: FailureKind, reason: str, *, http_status: int = 0, seconds: float = 0.0) -> Reply:
        """Return the reply that stands for an answer that never came; `http_status` is 0 where there was none."""
        return Reply(
            status="failed",
            failure=kind,
            http_status=http_status or UNSET,
            reason=reason,
            model=self.name,
            cost_usd=0.0,
            seconds=seconds,
        )

    def fatal(self, trouble: CallFailure) -> LLMError:
        """Return the error that stops a run whose every request would end so."""
        what = "base_url" if trouble.foreign else f"the model ({self.name!r}), the key or the base_url"
        return LLMError(f"{trouble.reason}; correct {what}, then run again")

    def trouble(self, error: Exception) -> CallFailure:
        """Return what an error of the SDK, or of the connection under it, means."""
        if isinstance(error, (self.sdk.APIError, self.broken)):
            return failure_of(error, self.where)
        return self._foreign(f"an answer that is not JSON ({error})")

    def _give_up(self, trouble: CallFailure, number: int, seconds: float) -> Reply:
        if trouble.fatal or (trouble.foreign and not self._speaks):
            raise self.fatal(trouble)
        if trouble.unreached and not self._speaks:
            # It was never there: the other rows need not find that out one by one.
            raise LLMError(f"{trouble.reason} (try {number}); start the server or correct base_url, then run again")
        reason = f"{trouble.reason} (try {number})"
        return self.failed(trouble.kind, reason, http_status=trouble.status, seconds=seconds)

    def _try(self, request: Request, until: float) -> Reply | CallFailure:
        """Send a request once; every way that it can end is in the books."""
        with self._limiter.slot() as sent_at:
            timeout_s = min(self._timeout_s, until - sent_at)
            if timeout_s <= 0:
                return CallFailure(kind=FailureKind.TIMED_OUT, reason=f"{self.where}: timed out before it was sent")
            call = self._books.reserve(request)
            try:
                came = self._send(request, timeout_s)
            except BaseException:
                self._books.lose(call)
                raise
            if isinstance(came, Reply):
                self._speaks = True
                self._books.settle(call, request, came)
                self._limiter.served()
                return came
            (self._books.lose if came.billed else self._books.free)(call)
            if came.overloaded:
                pause_s = came.asked_s if came.asked_s <= self.retry.longest_wait_s else 0.0
                self._limiter.overloaded(sent_at, pause_s)
            return came

    def _send(self, request: Request, timeout_s: float) -> Reply | CallFailure:
        params = self.params(request)
        # The SDK has no parameter for the temperature, and the newest models refuse it.
        extra = {"temperature": params.pop("temperature")} if "temperature" in params else {}
        try:
            message = self.client.messages.create(**params, extra_body=extra, timeout=timeout_s)
        except (self.sdk.APIError, ValueError) as error:
            return self.trouble(error)
        return self.read(message) if is_message(message) else self._foreign(f"{str(message)[:80]!r}")

    def _foreign(self, came: str) -> CallFailure:
        reason = f"{self.where}: {came} came, want an answer of the Messages protocol"
        return CallFailure(kind=FailureKind.UNREADABLE, reason=reason, can_pass=True, billed=True, foreign=True)


def _sdk() -> Any:
    try:
        import anthropic
    except ImportError as error:
        raise LLMError(
            "the package 'anthropic' is missing, and a Messages server is asked through it; "
            "run: pip install 'hybrid-cascade[llm]'"
        ) from error
    return anthropic


def _broken() -> type[Exception]:
    """Return what the SDK's transport raises, unwrapped, where a stream of results breaks off."""
    import httpx2

    return httpx2.TransportError


def _key_for(model: str, base_url: str) -> str:
    if base_url:
        return os.environ.get("HYBRID_LLM_API_KEY", "none")
    found = os.environ.get("ANTHROPIC_API_KEY", "")
    if not found:
        raise LLMError(
            f"{model}: the environment variable ANTHROPIC_API_KEY is not set, want the key of the Claude API; "
            "set it, or choose the model 'recorded' or 'local', or a server with base_url"
        )
    return found
