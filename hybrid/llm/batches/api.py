"""The Message Batches API of a provider: hand over a batch, wait for it, read its results."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import msgspec

from hybrid.errors import LLMError
from hybrid.llm.batches.results import Result, n_readable, read_results
from hybrid.llm.client.messages import Messages
from hybrid.llm.client.retry import CallFailure
from hybrid.llm.messages_format import decode_body
from hybrid.llm.request import Request, key

MAX_FAILED_POLLS = 20
"""Polls in a row that may fail before a run gives up on a batch."""
PATH = "/v1/messages/batches"
_PAGE = 100
"""The batches of one page of the provider's list."""
_NOT_FOUND = 404
Answer = TypeVar("Answer")
State = Literal["ended", "archived", "gone"]
"""How the wait for a batch ends. archived: it has ended, and the provider names no place of its results any more."""


class PollingPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """Limits the size of a batch, and sets how often its state is polled."""

    most_requests: int = 10_000
    most_bytes: int = 32_000_000
    first_wait_s: float = 1.0
    """The wait before the second poll; it grows by half with each poll."""
    longest_wait_s: float = 60.0
    gone_looks: int = 5
    gone_after_s: float = 300.0
    """A batch is gone after that many looks in a row, over that many seconds, that do not find it: a gateway says of one
    that exists now and then that it does not."""
    look_again_s: tuple[float, ...] = (2.0, 5.0, 10.0, 20.0)
    """The waits between the looks for a batch whose creation got no clear answer: the provider may list it late."""


class RemoteBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that the provider has."""

    batch_id: str
    n_requests: int | None
    """None where the provider's entry does not say."""


class BatchApi:
    """The batches of one client. Calls that change nothing are retried as the client's policy says.

    Everything is read from the JSON itself: an odd entry of a list or a line of the results is no reason to lose the others.
    """

    def __init__(self, messages: Messages, polling: PollingPolicy) -> None:
        self._messages = messages
        self._polling = polling

    def create(self, requests: Sequence[Request]) -> str | CallFailure:
        """Submit a batch, once. Returns the provider's id, or why the provider refused it or may have."""
        name = self._messages.name
        body = {"requests": [{"custom_id": key(name, r), "params": self._messages.params(r)} for r in requests]}
        batch = self._call(lambda: _object(self._messages.post(PATH, body)))
        if isinstance(batch, CallFailure) or isinstance(batch.get("id"), str):
            return batch if isinstance(batch, CallFailure) else str(batch["id"])
        return self._messages.unreadable(f"a batch without an id: {str(batch)[:80]!r}")

    def recent(self, since: float) -> list[RemoteBatch]:
        """List the provider's batches created since a time (seconds since 1970), newest first."""

        def all_pages() -> list[RemoteBatch]:
            batches: list[RemoteBatch] = []
            params: dict[str, Any] = {"limit": _PAGE}
            while True:
                page = _object(self._messages.get(PATH, params))
                for entry in _entries(page.get("data")):
                    created_at = _seconds(entry.get("created_at"))
                    if created_at is not None and created_at < since:
                        return batches
                    if isinstance(entry.get("id"), str):
                        batches.append(RemoteBatch(batch_id=entry["id"], n_requests=_total(entry)))
                last_id = page.get("last_id")
                if page.get("has_more") is not True or not isinstance(last_id, str):
                    return batches
                params = {"limit": _PAGE, "after_id": last_id}

        return self._with_retries(all_pages)

    def wait(self, batch_id: str) -> State:
        """Wait until a batch has ended, however long that takes, or is surely gone.

        Raises:
            LLMError: the provider can no longer be reached.
        """
        wait_s = self._polling.first_wait_s
        n_failed = 0
        absence = _Absence(self._polling)
        while True:
            batch = self._call(lambda: _object(self._messages.get(_path(batch_id))))
            if not isinstance(batch, CallFailure) and isinstance(batch.get("processing_status"), str):
                n_failed, absence = 0, _Absence(self._polling)
                if batch["processing_status"] == "ended":
                    return "ended" if batch.get("results_url", "") is not None else "archived"
            elif not isinstance(batch, CallFailure):
                batch = self._messages.unreadable(f"{str(batch)[:80]!r}")
            if isinstance(batch, CallFailure) and batch.status == _NOT_FOUND:
                if absence.is_sure():
                    return "gone"
            elif isinstance(batch, CallFailure):
                n_failed += 1
                if not batch.retryable or n_failed >= MAX_FAILED_POLLS:
                    raise self._unreachable(batch)
            time.sleep(wait_s)
            wait_s = min(1.5 * wait_s, self._polling.longest_wait_s)

    def results(self, batch_id: str, requests: Mapping[str, Request], state: State = "ended") -> list[Result]:
        """Read the results of a batch that has ended, the answers to `requests` by key, in no particular order.

        Results that are cut off or lack a request are fetched again, within the client's tries. In the end a request
        whose line cannot be read has a result that says so, or none.
        """
        retry = self._messages.retry
        results: dict[str, Result] = {}
        for number in range(1, retry.tries + 1):
            read = read_results(self._result_lines(batch_id, state), requests, self._messages.read)
            results = max(results, read, key=n_readable)
            if n_readable(results) >= len(requests) or state != "ended" or number == retry.tries:
                break
            time.sleep(retry.wait_s(number))
        return list(results.values())

    def keys(self, batch_id: str) -> set[str]:
        """Read the keys of the requests in the results of a batch that has ended."""
        return {result.key for result in self.results(batch_id, {})}

    def _result_lines(self, batch_id: str, state: State) -> bytes:
        """Fetch the results; empty where the provider has them no longer."""
        absence = _Absence(self._polling)

        def fetch() -> bytes | CallFailure:
            while True:
                content = self._call(lambda: self._messages.get(f"{_path(batch_id)}/results"))
                if not isinstance(content, CallFailure) or content.status != _NOT_FOUND:
                    return content
                if state != "ended" or absence.is_sure():
                    return b""
                time.sleep(min(self._polling.longest_wait_s, max(self._polling.first_wait_s, 1.0)))

        return self._with_retries(fetch)

    def _with_retries(self, call: Callable[[], Answer | CallFailure]) -> Answer:
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

    def _call(self, call: Callable[[], Answer | CallFailure]) -> Answer | CallFailure:
        try:
            return call()
        except (self._messages.sdk.AnthropicError, self._messages.transport_error, ValueError) as error:
            return self._messages.failure(error)

    def _unreachable(self, failure: CallFailure) -> LLMError:
        return LLMError(f"{failure.reason}; run again to continue with the open batches, whose ids are stored")


class _Absence:
    """Looks in a row for a batch that was not found."""

    def __init__(self, polling: PollingPolicy) -> None:
        self._polling = polling
        self._looks = 0
        self._since = 0.0

    def is_sure(self) -> bool:
        """Note one more look; whether that makes it sure that the batch is gone."""
        self._looks += 1
        self._since = self._since or time.monotonic()
        over_s = time.monotonic() - self._since
        return self._looks >= self._polling.gone_looks and over_s >= self._polling.gone_after_s


def _path(batch_id: str) -> str:
    return f"{PATH}/{quote(batch_id, safe='')}"


def _object(content: bytes) -> dict[str, Any]:
    """Decode a JSON object.

    Raises:
        ValueError: it is none.
    """
    body = decode_body(content)
    if not isinstance(body, dict):
        raise ValueError(f"expected an object, got {str(body)[:80]!r}")  # noqa: TRY004 as any other body that is none
    return body


def _entries(data: object) -> list[dict[str, Any]]:
    return [entry for entry in data if isinstance(entry, dict)] if isinstance(data, list) else []


def _seconds(timestamp: object) -> float | None:
    """Seconds since 1970 of a time in RFC 3339; None where it is none."""
    try:
        return datetime.fromisoformat(str(timestamp)).timestamp()
    except (ValueError, OverflowError):
        return None


def _total(entry: Mapping[str, Any]) -> int | None:
    counts = entry.get("request_counts")
    numbers = list(counts.values()) if isinstance(counts, dict) else []
    return sum(numbers) if numbers and all(type(number) is int for number in numbers) else None
