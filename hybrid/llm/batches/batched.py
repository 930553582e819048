"""Sends requests through the Message Batches API, at a lower price and in a way that survives a crash."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from hybrid.errors import LLMError
from hybrid.llm.batches.api import BatchApi, PollingPolicy
from hybrid.llm.batches.journal import (
    OpenBatch,
    close,
    drop,
    known_ids,
    note_id,
    only_submitter,
    open_batches,
    requests_of,
    settle,
)
from hybrid.llm.batches.results import Result
from hybrid.llm.client.messages import Messages
from hybrid.llm.client.retry import CallFailure
from hybrid.llm.cost.trace_ledger import RunLedger, reserve_batch
from hybrid.llm.messages_format import prompt_bytes
from hybrid.llm.request import FailureKind, Reply, Request, key
from hybrid.llm.traces.cache import CachedLLM, Usage

_NO_SUCH_PATH = {404, 405, 501}
"""HTTP statuses of a server that has no batches."""
MAX_ROUNDS = 3
"""The most submissions of a request that expires or meets a temporary error."""
MAX_CLOCK_SKEW_S = 300.0
"""The most that the provider's clock may differ from ours."""
CREATED_JUST_NOW_S = 600.0
"""A batch of this age, left by a process that was killed, may not be in the provider's list yet."""
SETTLED_AT_ONCE = 500
"""The most results that one transaction settles."""


class Batched:
    """A model that sends many requests in batches, and a single request directly.

    The requests of a batch are on disk, with their cost reserved, before it is submitted, and its id right after. If the
    process is killed in between, the next process looks for the batch among the provider's by time and size, and
    recognises it by the keys in its results.
    """

    def __init__(
        self, cached: CachedLLM, messages: Messages, ledger: RunLedger, polling: PollingPolicy | None = None
    ) -> None:
        """Bind a client, its cache and its ledger, all on one trace file."""
        self._cached = cached
        self._messages = messages
        self._ledger = ledger
        self._calls = ledger.store
        self._polling = polling or PollingPolicy()
        self._api = BatchApi(messages, self._polling)

    @property
    def name(self) -> str:
        """The model's name."""
        return self._cached.name

    def ask(self, request: Request) -> Reply:
        """Answer a request from the store, or else by a direct call."""
        return self._cached.ask(request)

    def usage(self) -> Usage:
        """The usage through this instance."""
        return self._cached.usage()

    def ask_many(self, requests: Sequence[Request], on_done: Callable[[int], None] | None = None) -> list[Reply]:
        """Get a reply to each request, in their order, after all open batches have ended, those of earlier runs included.

        Raises:
            BudgetError: the remaining requests could exceed the budget; submitted batches are settled.
            LLMError: the provider cannot be reached or has no batches; open batches are kept for the next run.
        """
        digests = [key(self.name, request) for request in requests]
        job = _Job(self._cached, dict(zip(digests, requests, strict=True)), self._messages.unpriced)
        while missing := job.look_up_missing():
            job.handed_over.update(self._hand_over(missing))
            batches = open_batches(self._calls)
            if not batches:
                # Another run asks all that is missing, one by one.
                time.sleep(self._polling.first_wait_s)
            for batch in batches:
                for results in self._collect(batch, job.requests):
                    job.add(results, self._messages.failed)
                    if on_done is not None:
                        on_done(len(requests) - len(job.missing()))
        return [job.reply(digest) for digest in digests]

    def _hand_over(self, missing: dict[str, Request]) -> list[str]:
        """Submit the requests that are in no open batch, as many as the budget allows; return their keys."""
        with only_submitter(self._calls.file):
            for batch in open_batches(self._calls):
                is_new = time.time() - batch.created_at < CREATED_JUST_NOW_S
                if batch.batch_id is None and not self._find(batch, patiently=is_new):
                    drop(self._calls, batch)
            in_open_batches = {digest for batch in open_batches(self._calls) for digest in batch.calls}
            # Looked up after the open batches, so that what another process settles meanwhile is in one of the two.
            elsewhere = in_open_batches | self._cached.claims.others()
            fresh = [r for digest, r in missing.items() if digest not in elsewhere and not self._cached.find(digest)]
            handed_over: list[str] = []
            for chunk in self._chunks(fresh):
                number, n_fit = reserve_batch(self._ledger, chunk)
                if n_fit:
                    self._submit(number, chunk[:n_fit])
                    handed_over += [key(self.name, request) for request in chunk[:n_fit]]
                elif not in_open_batches and not handed_over:
                    raise self._ledger.refusal(chunk[0], batch=True)
                if n_fit < len(chunk):
                    break
            return handed_over

    def _chunks(self, requests: Sequence[Request]) -> Iterator[list[Request]]:
        chunk: list[Request] = []
        size = 0
        for request in requests:
            n_bytes = prompt_bytes(request)
            if chunk and (len(chunk) == self._polling.most_requests or size + n_bytes > self._polling.most_bytes):
                yield chunk
                chunk, size = [], 0
            chunk.append(request)
            size += n_bytes
        if chunk:
            yield chunk

    def _submit(self, number: int, requests: Sequence[Request]) -> None:
        """Submit a batch whose cost is reserved, and note its id."""
        batch = next(batch for batch in open_batches(self._calls) if batch.number == number)
        retry = self._messages.retry
        attempt = 0
        while True:
            attempt += 1
            created = self._api.create(requests)
            if not isinstance(created, CallFailure):
                note_id(self._calls.file, number, created)
                return
            if self._was_taken(batch, created):
                return
            if not created.retryable or attempt == retry.tries:
                break
            time.sleep(retry.wait_s(attempt, min(created.retry_after_s, retry.longest_wait_s)))
        drop(self._calls, batch)
        advice = "leave batch out, or correct the section" if created.fatal else "run again later"
        raise LLMError(f"batch = true: {created.reason}; no batch was handed over: {advice}")

    def _was_taken(self, batch: OpenBatch, failure: CallFailure) -> bool:
        """Whether the provider accepted a batch although its creation failed; if so its id is noted."""
        if not failure.billed and failure.status < 500:
            return False
        if failure.status not in _NO_SUCH_PATH:
            return self._find(batch, patiently=True)
        try:
            return self._find(batch)
        except LLMError:
            # A server without batches has no list of them either.
            return False

    def _find(self, batch: OpenBatch, *, patiently: bool = False) -> bool:
        """Look among the provider's batches for one whose id never arrived, and note its id; False if it is not there.

        `patiently` looks again after some seconds, for a batch that was just created.
        """
        for wait_s in (0.0, *(self._polling.look_again_s if patiently else ())):
            time.sleep(wait_s)
            if self._look_for(batch):
                return True
        return False

    def _look_for(self, batch: OpenBatch) -> bool:
        noted_ids = known_ids(self._calls.file)
        for remote in self._api.recent(batch.created_at - MAX_CLOCK_SKEW_S):
            if remote.batch_id in noted_ids or remote.n_requests not in (None, len(batch.calls)):
                continue
            # Only its results show whose it is.
            if self._api.wait(remote.batch_id) != "gone":
                keys = self._api.keys(remote.batch_id)
                if keys and keys <= set(batch.calls):
                    note_id(self._calls.file, batch.number, remote.batch_id)
                    return True
        return False

    def _collect(self, batch: OpenBatch, asked: Mapping[str, Request]) -> Iterator[list[Result]]:
        """Wait for a batch and yield its results in parts, each once settled. A request without a result counts as lost.

        The results of requests in `asked` are read whether or not another process has settled them meanwhile.
        """
        assert batch.batch_id is not None, "a batch is found or dropped before it is waited for"
        without_result = set(batch.calls)
        state = self._api.wait(batch.batch_id)
        if state != "gone":
            own = {digest: asked[digest] for digest in batch.calls if digest in asked}
            requests = requests_of(self._calls, batch) | own
            results = self._api.results(batch.batch_id, requests, state)
            for start in range(0, len(results), SETTLED_AT_ONCE):
                part = results[start : start + SETTLED_AT_ONCE]
                settle(self._calls, batch, requests, part)
                without_result -= {result.key for result in part}
                yield part
        close(self._calls, batch)
        yield [Result(key=digest, reason=f"batch {batch.batch_id} has no result for it") for digest in without_result]


class _Job:
    """The requests of one `ask_many`, and the replies to them so far."""

    def __init__(
        self, cached: CachedLLM, requests: dict[str, Request], refuse: Callable[[Request], Reply | None]
    ) -> None:
        self.handed_over: Counter[str] = Counter()
        self._cached = cached
        self.requests = requests
        self._from_store: dict[str, Reply] = {}
        self._replies = {digest: reply for digest, request in requests.items() if (reply := refuse(request))}

    def look_up_missing(self) -> dict[str, Request]:
        """Take the answers that the store has by now, and return the requests that still have no reply, by key."""
        for digest in self.missing():
            if reply := self._cached.find(digest):
                self._from_store[digest] = reply
                self._cached.count(reply, hit=True)
        return self.missing()

    def missing(self) -> dict[str, Request]:
        """The requests that have no reply yet, by key."""
        answered = self._replies.keys() | self._from_store.keys()
        return {digest: request for digest, request in self.requests.items() if digest not in answered}

    def add(self, results: Sequence[Result], failed: Callable[[FailureKind, str], Reply]) -> None:
        """Turn results into replies; after a temporary error a request stays missing until its `MAX_ROUNDS`th submission."""
        for result in results:
            if result.key not in self.requests or result.key in self._from_store:
                continue
            if result.reply is not None:
                self._replies[result.key] = result.reply
                self._cached.count(result.reply, hit=False)
            elif not result.retryable or self.handed_over[result.key] >= MAX_ROUNDS:
                self._replies[result.key] = failed(result.kind, result.reason)

    def reply(self, digest: str) -> Reply:
        """The reply to the request with this key."""
        return self._from_store.get(digest) or self._replies[digest]
