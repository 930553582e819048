"""The Message Batches API, its troubles told apart."""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from hybrid.errors import LLMError
from hybrid.llm.client.messages import Messages
from hybrid.llm.client.messages_format import is_message
from hybrid.llm.client.retry import CallFailure
from hybrid.llm.request import FailureKind, Reply, Request, key

PATIENCE = 20
"""Looks in a row that may fail before a run gives up on a batch."""
_KINDS = {
    "api_error": FailureKind.SERVER_ERROR,
    "overloaded_error": FailureKind.RATE_LIMITED,
    "rate_limit_error": FailureKind.RATE_LIMITED,
    "timeout_error": FailureKind.SERVER_ERROR,
}
"""Errors of one request in a batch that may pass another time; every other type says that the request is wrong."""
Found = TypeVar("Found")


class PollingPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How large a batch is and how often its state is asked for."""

    most_requests: int = 10_000
    most_bytes: int = 32_000_000
    first_wait_s: float = 1.0
    """Half as long again with each look."""
    longest_wait_s: float = 60.0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How one request of a batch ended."""

    key: str
    reply: Reply | None = None
    """None where it was not billed: errored, canceled, expired."""
    reason: str = ""
    kind: FailureKind = FailureKind.EXPIRED
    """What the reason says, where there is no reply."""
    can_pass: bool = False
    """Whether the same request may pass another time."""


class RemoteBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that the provider has."""

    batch_id: str
    n_requests: int


class BatchApi:
    """The batches of one client."""

    def __init__(self, messages: Messages, pace: PollingPolicy) -> None:
        self._messages = messages
        self._pace = pace
        self._api = messages.client.messages.batches

    def create(self, requests: Sequence[Request]) -> str | CallFailure:
        """Return the id under which the provider took a batch, or why it did not, or may not have."""
        body = [
            {"custom_id": key(self._messages.name, request), "params": self._messages.params(request)}
            for request in requests
        ]
        made = self._call(lambda: self._api.create(requests=body))
        return made if isinstance(made, CallFailure) else str(made.id)

    def recent(self, since: float) -> list[RemoteBatch]:
        """Return the provider's batches made since a moment, newest first."""

        def pages() -> list[RemoteBatch]:
            found = []
            for batch in self._api.list(limit=100):
                if batch.created_at.timestamp() < since:
                    break
                counts = batch.request_counts
                total = counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired
                found.append(RemoteBatch(batch_id=batch.id, n_requests=total))
            return found

        return self._patiently(pages)

    def wait(self, batch_id: str) -> bool:
        """Return True when a batch has ended, however long that takes; False where it does not exist any more."""
        wait_s = self._pace.first_wait_s
        failed = 0
        while True:
            batch = self._call(lambda: self._api.retrieve(batch_id))
            if not isinstance(batch, CallFailure):
                failed = 0
                if batch.processing_status == "ended":
                    return batch.results_url is not None
            elif batch.status == 404:
                return False
            elif not batch.can_pass or (failed := failed + 1) >= PATIENCE:
                raise self._lost_sight(batch)
            time.sleep(wait_s)
            wait_s = min(1.5 * wait_s, self._pace.longest_wait_s)

    def results(self, batch_id: str) -> list[Result]:
        """Return how each request of a batch that has ended came out."""
        return self._patiently(lambda: [self._result(line) for line in self._api.results(batch_id)])

    def _result(self, line: Any) -> Result:
        ended = line.result.type
        if ended == "succeeded" and is_message(line.result.message):
            return Result(key=line.custom_id, reply=self._messages.read(line.result.message, batch=True))
        if ended == "errored":
            error = line.result.error.error
            reason = f"errored in the batch: {error.type}: {error.message}"
            kind = _KINDS.get(error.type, FailureKind.REJECTED)
            return Result(key=line.custom_id, reason=reason, kind=kind, can_pass=error.type in _KINDS)
        # Only a person cancels a batch, and would not thank for another.
        return Result(key=line.custom_id, reason=f"{ended} in the batch", can_pass=ended == "expired")

    def _patiently(self, act: Callable[[], Found]) -> Found:
        """Return what a call that changes nothing brings, tried again while that can help."""
        retry = self._messages.retry
        for number in range(1, retry.tries + 1):
            came = self._call(act)
            if not isinstance(came, CallFailure):
                return came
            if not came.can_pass or number == retry.tries:
                raise self._lost_sight(came)
            time.sleep(retry.wait_s(number, min(came.asked_s, retry.longest_wait_s)))
        raise AssertionError("at least one try")

    def _call(self, act: Callable[[], Found]) -> Found | CallFailure:
        try:
            return act()
        # A stream of results that breaks off raises what the connection does, or leaves half a line.
        except (self._messages.sdk.AnthropicError, self._messages.broken, ValueError) as error:
            return self._messages.trouble(error)

    def _lost_sight(self, trouble: CallFailure) -> LLMError:
        return LLMError(f"{trouble.reason}; run again to go on from the batches that are open: their ids are kept")
