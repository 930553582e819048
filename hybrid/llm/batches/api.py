"""The Message Batches API of a provider: hand over a batch, wait for it, read its results."""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from hybrid.errors import LLMError
from hybrid.llm.client.messages import Messages
from hybrid.llm.client.retry import CallFailure
from hybrid.llm.messages_format import is_message
from hybrid.llm.request import FailureKind, Reply, Request, key

MAX_FAILED_POLLS = 20
"""Polls in a row that may fail before a run gives up on a batch."""
_RETRYABLE = {
    "api_error": FailureKind.SERVER_ERROR,
    "overloaded_error": FailureKind.RATE_LIMITED,
    "rate_limit_error": FailureKind.RATE_LIMITED,
    "timeout_error": FailureKind.SERVER_ERROR,
}
"""Temporary errors of one request in a batch; every other type means that the request is invalid."""
Answer = TypeVar("Answer")


class PollingPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Limits the size of a batch, and sets how often its state is polled."""

    most_requests: int = 10_000
    most_bytes: int = 32_000_000
    first_wait_s: float = 1.0
    """The wait before the second poll; it grows by half with each poll."""
    longest_wait_s: float = 60.0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """How one request of a batch ended."""

    key: str
    """`hybrid.llm.request.key` of model and request."""
    reply: Reply | None = None
    """None where the request was not billed: errored, canceled or expired."""
    reason: str = ""
    """Why there is no reply, in words for people."""
    kind: FailureKind = FailureKind.EXPIRED
    """Why there is no reply."""
    retryable: bool = False
    """Whether the same request may be answered in another batch."""


class RemoteBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that the provider has."""

    batch_id: str
    n_requests: int


class BatchApi:
    """The batches of one client. Calls that change nothing are retried as the client's policy says."""

    def __init__(self, messages: Messages, polling: PollingPolicy) -> None:
        self._messages = messages
        self._polling = polling
        self._api = messages.client.messages.batches

    def create(self, requests: Sequence[Request]) -> str | CallFailure:
        """Submit a batch, once. Returns the provider's id, or why the provider refused it or may have."""
        body = [
            {"custom_id": key(self._messages.name, request), "params": self._messages.params(request)}
            for request in requests
        ]
        batch = self._call(lambda: self._api.create(requests=body))
        return batch if isinstance(batch, CallFailure) else str(batch.id)

    def recent(self, since: float) -> list[RemoteBatch]:
        """List the provider's batches created since a time (seconds since 1970), newest first."""

        def all_pages() -> list[RemoteBatch]:
            batches = []
            for batch in self._api.list(limit=100):
                if batch.created_at.timestamp() < since:
                    break
                counts = batch.request_counts
                total = counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired
                batches.append(RemoteBatch(batch_id=batch.id, n_requests=total))
            return batches

        return self._with_retries(all_pages)

    def wait(self, batch_id: str) -> bool:
        """Wait until a batch has ended, however long that takes; False if it no longer exists.

        Raises:
            LLMError: the provider can no longer be reached.
        """
        wait_s = self._polling.first_wait_s
        n_failed = 0
        while True:
            batch = self._call(lambda: self._api.retrieve(batch_id))
            if not isinstance(batch, CallFailure):
                n_failed = 0
                if batch.processing_status == "ended":
                    return batch.results_url is not None
            elif batch.status == 404:
                return False
            elif not batch.retryable or (n_failed := n_failed + 1) >= MAX_FAILED_POLLS:
                raise self._unreachable(batch)
            time.sleep(wait_s)
            wait_s = min(1.5 * wait_s, self._polling.longest_wait_s)

    def results(self, batch_id: str) -> list[Result]:
        """Read the results of a batch that has ended, in no particular order."""
        return self._with_retries(lambda: [self._result(line) for line in self._api.results(batch_id)])

    def _result(self, line: Any) -> Result:
        ended = line.result.type
        if ended == "succeeded" and is_message(line.result.message):
            return Result(key=line.custom_id, reply=self._messages.read(line.result.message, batch=True))
        if ended == "errored":
            error = line.result.error.error
            return Result(
                key=line.custom_id,
                reason=f"errored in the batch: {error.type}: {error.message}",
                kind=_RETRYABLE.get(error.type, FailureKind.REJECTED),
                retryable=error.type in _RETRYABLE,
            )
        # Only a person cancels a batch, so its requests are not submitted again.
        return Result(key=line.custom_id, reason=f"{ended} in the batch", retryable=ended == "expired")

    def _with_retries(self, call: Callable[[], Answer]) -> Answer:
        """Make a call that changes nothing until it succeeds.

        Raises:
            LLMError: it cannot succeed, or did not within the client's tries.
        """
        retry = self._messages.retry
        for number in range(1, retry.tries + 1):
            answer = self._call(call)
            if not isinstance(answer, CallFailure):
                return answer
            if not answer.retryable or number == retry.tries:
                raise self._unreachable(answer)
            time.sleep(retry.wait_s(number, min(answer.retry_after_s, retry.longest_wait_s)))
        raise AssertionError("at least one try")

    def _call(self, call: Callable[[], Answer]) -> Answer | CallFailure:
        try:
            return call()
        # A stream of results that breaks off raises the connection's error, or leaves half a line.
        except (self._messages.sdk.AnthropicError, self._messages.transport_error, ValueError) as error:
            return self._messages.failure(error)

    def _unreachable(self, failure: CallFailure) -> LLMError:
        return LLMError(f"{failure.reason}; run again to continue with the open batches, whose ids are stored")
