"""Client for Claude and every other server of the Messages protocol, through the `anthropic` SDK."""

import math
import time
from typing import Any

import msgspec
from msgspec import UNSET

from hybrid.errors import LLMError
from hybrid.llm.answers import judged
from hybrid.llm.client.connection import open_sdk_client, place_of
from hybrid.llm.client.limiter import Limiter
from hybrid.llm.client.retry import CallFailure, Retry, failure_of
from hybrid.llm.cost.ledger import CostLedger, NullLedger
from hybrid.llm.cost.prices import cost_usd
from hybrid.llm.cost.pricing import NANO, Pricing
from hybrid.llm.messages_format import decode_body, is_message, read_message, to_params
from hybrid.llm.request import FailureKind, Reply, Request
from hybrid.whole_call import call_limits, limit_whole_calls

MAX_ANSWER_BYTES = 16 << 20
"""The most bytes of an answer to one request: a hundred times those of the longest."""
MAX_FILE_BYTES = 2 << 30
"""The most bytes of another answer, such as the results of a batch."""


class Messages:
    """A model behind the Messages protocol. Requests are sent again as `retry` says; the SDK's own retries are off.

    Claude's key is ANTHROPIC_API_KEY. It is never sent to another server; one that needs a key
    gets HYBRID_LLM_API_KEY.
    """

    def __init__(
        self,
        model: str,
        *,
        base_url: str = "",
        use_environment: bool = False,
        timeout_s: float = 60.0,
        workers: int = 8,
        retry: Retry = Retry(),  # noqa: B008 a frozen struct
        ledger: CostLedger | None = None,
    ) -> None:
        """Open a client; nothing is sent yet. At most `workers` calls are under way at once.

        The server is `base_url`, else Claude's API, else (`use_environment`) the place that the environment names.

        Raises:
            LLMError: the package or the key is missing, or the environment's proxies or certificates cannot be used.
        """
        self.name = model
        self.sdk = _sdk()
        place = place_of(model, base_url, use_environment=use_environment)
        self.where = place.name
        self.retry = retry
        self._ledger = ledger or NullLedger(Pricing(model=model))
        self.pricing = self._ledger.pricing
        self._limiter = Limiter(workers)
        self._timeout_s = timeout_s
        self._has_answered = False
        """Whether the server gave an answer of the protocol before: later failures are then of one call alone."""
        import httpx2

        self._response_type = httpx2.Response
        self.transport_error = httpx2.RequestError
        """The base error of the SDK's transport, raised unwrapped where a body breaks off."""
        self.client = open_sdk_client(self.sdk, place, timeout_s=timeout_s, open_http=self._open_http)

    def _open_http(self, **settings: Any) -> Any:
        http_client = self.sdk.DefaultHttpxClient(**settings)
        limit_whole_calls(http_client)
        return http_client

    def ask(self, request: Request, *, until: float = math.inf) -> Reply:
        """Send one request, again where that can help and it is not yet `until` (of `time.monotonic`).

        Raises:
            LLMError: the server refuses every request of this kind (no such model, a wrong key), or cannot be
                reached and never answered before.
            BudgetError: the call could cross the budget.
        """
        if unpriced := self.unpriced(request):
            return unpriced
        started = time.monotonic()
        for number in range(1, self.retry.tries + 1):
            outcome = self._try(request, until)
            if isinstance(outcome, Reply):
                return msgspec.structs.replace(outcome, seconds=time.monotonic() - started)
            wait_s = self.retry.wait_s(number, outcome.retry_after_s)
            is_last = not outcome.retryable or wait_s > self.retry.longest_wait_s or number == self.retry.tries
            if is_last or time.monotonic() + wait_s >= until:
                return self._give_up(outcome, number, time.monotonic() - started)
            time.sleep(wait_s)
        raise AssertionError("at least one try")

    def unpriced(self, request: Request) -> Reply | None:
        """Refuse a request that a budget cannot cover because no price is known for so long a prompt; None if it can."""
        if self.pricing.budget_usd is None or self.pricing.worst_nano(request) is not None:
            return None
        reason = "not sent: no price is known for a prompt that may be so long; shorten the text"
        return self.failed(FailureKind.NO_PRICE, reason)

    def get(self, path: str, params: dict[str, Any] | None = None) -> bytes:
        """Fetch the body at a path of the server. Raises the errors of the SDK."""
        with call_limits(time.monotonic() + self._timeout_s, MAX_FILE_BYTES):
            response = self.client.get(path, cast_to=self._response_type, options={"params": params or {}})
        return bytes(response.content)

    def post(self, path: str, body: dict[str, Any]) -> bytes:
        """Send a body to a path of the server, and return that of its answer. Raises the errors of the SDK."""
        with call_limits(time.monotonic() + self._timeout_s, MAX_FILE_BYTES):
            return bytes(self.client.post(path, cast_to=self._response_type, body=body).content)

    def params(self, request: Request) -> dict[str, Any]:
        """Build the body of a request in the format of the protocol."""
        return to_params(request, self.name, cache=self.pricing.cache)

    def read(self, message: dict[str, Any], request: Request, *, batch: bool = False) -> Reply:
        """Convert a message, the answer to `request`, to a reply with its cost: the worst where its usage is none."""
        reply = judged(request, read_message(message, self.name))
        if reply.odd_usage is UNSET:
            return msgspec.structs.replace(reply, cost_usd=cost_usd(self.pricing.price, reply, batch=batch))
        worst_nano = self.pricing.worst_nano(request, batch=batch)
        return msgspec.structs.replace(reply, cost_usd=None if worst_nano is None else worst_nano / NANO)

    def failed(self, kind: FailureKind, reason: str, *, http_status: int = 0, seconds: float = 0.0) -> Reply:
        """Build the reply to a request that got no answer; `http_status` is 0 if the server sent none."""
        return Reply(
            status="failed",
            failure=kind,
            http_status=http_status or UNSET,
            reason=reason,
            model=self.name,
            cost_usd=0.0,
            seconds=seconds,
        )

    def fatal(self, failure: CallFailure) -> LLMError:
        """Build the error that stops a run in which every request would fail in this way."""
        advice = f"correct the model ({self.name!r}), the key or the base_url, then run again"
        return _llm_error(failure, f"{failure.reason}; {advice}")

    def failure(self, error: Exception) -> CallFailure:
        """Explain an error of the SDK, of the transport under it, or of an answer that is not JSON."""
        if isinstance(error, (self.sdk.APIError, self.transport_error)):
            return failure_of(error, self.where)
        return self.unreadable(f"not JSON ({error})")

    def _give_up(self, failure: CallFailure, number: int, seconds: float) -> Reply:
        """Turn the failure of the last try, `number`, into a reply, or stop the run if other requests would fail too."""
        if failure.fatal and not self._has_answered:
            raise self.fatal(failure)
        if failure.never_connected and not self._has_answered:
            # The server was never reachable, so the other rows would fail one by one.
            advice = "start the server or correct base_url, then run again"
            raise _llm_error(failure, f"{failure.reason} (try {number}); {advice}")
        reason = f"{failure.reason} (try {number})"
        return self.failed(failure.kind, reason, http_status=failure.status, seconds=seconds)

    def _try(self, request: Request, until: float) -> Reply | CallFailure:
        """Send a request once, and record its end in the ledger, however it ends."""
        with self._limiter.slot() as sent_at:
            timeout_s = min(self._timeout_s, until - sent_at)
            if timeout_s <= 0:
                return CallFailure(kind=FailureKind.TIMED_OUT, reason=f"{self.where}: timed out before it was sent")
            call = self._ledger.reserve(request)
            try:
                outcome = self._send(request, timeout_s)
            except BaseException:
                self._ledger.lose(call)
                raise
            if isinstance(outcome, Reply):
                self._has_answered = True
                self._ledger.settle(call, request, outcome)
                self._limiter.served()
                return outcome
            (self._ledger.lose if outcome.billed else self._ledger.free)(call)
            if outcome.kind is FailureKind.RATE_LIMITED:
                pause_s = outcome.retry_after_s if outcome.retry_after_s <= self.retry.longest_wait_s else 0.0
                self._limiter.overloaded(sent_at, pause_s)
            return outcome

    def _send(self, request: Request, timeout_s: float) -> Reply | CallFailure:
        params = self.params(request)
        # The SDK has no parameter for the temperature, and the newest models refuse it.
        extra = {"temperature": params.pop("temperature")} if "temperature" in params else {}
        create = self.client.messages.with_raw_response.create
        try:
            # The SDK's own types are built unchecked from whatever comes.
            with call_limits(time.monotonic() + timeout_s, MAX_ANSWER_BYTES):
                response = create(**params, extra_body=extra, timeout=timeout_s)
            message = decode_body(response.http_response.content)
        except (self.sdk.APIError, self.transport_error, ValueError) as error:
            return self.failure(error)
        return self.read(message, request) if is_message(message) else self.unreadable(f"{str(message)[:80]!r}")

    def unreadable(self, answer: str) -> CallFailure:
        """Explain an answer that is not of the protocol; it may have been billed."""
        reason = f"{self.where}: expected an answer of the Messages protocol, got {answer}"
        return CallFailure(kind=FailureKind.UNREADABLE, reason=reason, retryable=True, billed=True)


def _llm_error(failure: CallFailure, message: str) -> LLMError:
    return LLMError(message, failure=failure.kind, http_status=failure.status)


def _sdk() -> Any:
    try:
        import anthropic
    except ImportError as error:
        raise LLMError(
            "the package 'anthropic' is missing, but Messages servers need it as their client; "
            "run: pip install 'hybrid-cascade[llm]'"
        ) from error
    return anthropic
