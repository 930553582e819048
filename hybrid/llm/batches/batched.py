"""Questions that may wait go to the Message Batches API, for part of the price, in a way that survives a crash."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from hybrid.errors import LLMError
from hybrid.llm.batches.api import BatchApi, PollingPolicy, Result
from hybrid.llm.batches.journal import OpenBatch, alone, close, drop, known_ids, note_id, open_batches, settle
from hybrid.llm.client.messages import Messages
from hybrid.llm.client.messages_format import prompt_bytes
from hybrid.llm.client.retry import CallFailure
from hybrid.llm.cost.trace_ledger import RunLedger, reserve_batch
from hybrid.llm.request import FailureKind, Reply, Request, key
from hybrid.llm.traces.cache import CachedLLM, Usage

ROUNDS = 3
"""How often a request that expires, or meets an error that can pass, is handed over."""
SKEW_S = 300.0
"""How far the provider's clock may be from ours."""
PART = 500
"""Results that are settled at a time."""


class Batched:
    """A model whose many questions go to batches; a single one is asked directly.

    What a batch asks is on disk, reserved, before it is handed over, and its id right after. Where a
    process was killed in between, the next one looks for the batch among the provider's, by time
    and size, and knows it by the keys in its results.
    """

    def __init__(
        self, stored: CachedLLM, messages: Messages, ledger: RunLedger, pace: PollingPolicy | None = None
    ) -> None:
        """Bind a client, its store and its ledger, all of one file."""
        self._stored = stored
        self._messages = messages
        self._ledger = ledger
        self._calls = ledger.store
        self._pace = pace = pace or PollingPolicy()
        self._api = BatchApi(messages, pace)

    @property
    def name(self) -> str:
        """The model's name."""
        return self._stored.name

    def ask(self, request: Request) -> Reply:
        """Return one answer, stored or asked for directly."""
        return self._stored.ask(request)

    def usage(self) -> Usage:
        """Return what was asked through this instance."""
        return self._stored.usage()

    def ask_many(self, requests: Sequence[Request], on_done: Callable[[int], None] | None = None) -> list[Reply]:
        """Return one reply a request, in their order; batches that are still out are waited for first.

        Raises:
            BudgetError: what is left to ask could cross the budget; what was handed over is in.
            LLMError: the provider cannot be reached or has no batches; open batches are kept for the next run.
        """
        digests = [key(self.name, request) for request in requests]
        job = _Job(self._stored, dict(zip(digests, requests, strict=True)), self._messages.unpriced)
        while missing := job.look_again():
            job.handed_over.update(self._hand_over(missing))
            for batch in open_batches(self._calls):
                for results in self._collect(batch):
                    job.hear(results, self._messages.failed)
                    if on_done is not None:
                        on_done(len(requests) - len(job.missing()))
        return [job.reply(digest) for digest in digests]

    def _hand_over(self, missing: dict[str, Request]) -> list[str]:
        """Return the keys that were handed over: those that no open batch asks, as many as the budget allows."""
        with alone(self._calls.file):
            for batch in open_batches(self._calls):
                if batch.batch_id is None and not self._find(batch):
                    drop(self._calls, batch)
            out = {digest for batch in open_batches(self._calls) for digest in batch.calls}
            # Looked up after the open batches: what another process settles in between is found in one or the other.
            fresh = [r for digest, r in missing.items() if digest not in out and not self._stored.find(digest)]
            done: list[str] = []
            for chunk in self._chunks(fresh):
                number, fit = reserve_batch(self._ledger, chunk)
                if fit:
                    self._submit(number, chunk[:fit])
                    done += [key(self.name, request) for request in chunk[:fit]]
                elif not out and not done:
                    raise self._ledger.refusal(chunk[0], batch=True)
                if fit < len(chunk):
                    break
            return done

    def _chunks(self, requests: Sequence[Request]) -> Iterator[list[Request]]:
        chunk: list[Request] = []
        size = 0
        for request in requests:
            n_bytes = prompt_bytes(request)
            if chunk and (len(chunk) == self._pace.most_requests or size + n_bytes > self._pace.most_bytes):
                yield chunk
                chunk, size = [], 0
            chunk.append(request)
            size += n_bytes
        if chunk:
            yield chunk

    def _submit(self, number: int, requests: Sequence[Request]) -> None:
        """Hand over a batch that is reserved, and note its id."""
        batch = next(batch for batch in open_batches(self._calls) if batch.number == number)
        retry = self._messages.retry
        attempt = 0
        while True:
            attempt += 1
            came = self._api.create(requests)
            if not isinstance(came, CallFailure):
                note_id(self._calls.file, number, came)
                return
            # The provider may have taken the batch although its answer never came.
            if (came.billed or came.status >= 500) and self._find(batch):
                return
            if not came.can_pass or attempt == retry.tries:
                break
            time.sleep(retry.wait_s(attempt, min(came.asked_s, retry.longest_wait_s)))
        drop(self._calls, batch)
        what = "leave batch out, or correct the section" if came.fatal else "run again later"
        raise LLMError(f"batch = true: {came.reason}; no batch was handed over: {what}")

    def _find(self, batch: OpenBatch) -> bool:
        """Return whether the provider has a batch whose id was never heard, and note the id."""
        known = known_ids(self._calls.file)
        for handed in self._api.recent(batch.created_at - SKEW_S):
            if handed.batch_id in known or handed.n_requests != len(batch.calls):
                continue
            # Only its results tell whose it is.
            if self._api.wait(handed.batch_id):
                keys = {result.key for result in self._api.results(handed.batch_id)}
                if keys == set(batch.calls):
                    note_id(self._calls.file, batch.number, handed.batch_id)
                    return True
        return False

    def _collect(self, batch: OpenBatch) -> Iterator[list[Result]]:
        """Wait for a batch and yield its results as they are settled, in parts; what has none is lost."""
        assert batch.batch_id is not None, "a batch is found or dropped before it is waited for"
        silent = set(batch.calls)
        if self._api.wait(batch.batch_id):
            results = self._api.results(batch.batch_id)
            for start in range(0, len(results), PART):
                part = results[start : start + PART]
                settle(self._calls, batch, part)
                silent -= {result.key for result in part}
                yield part
        close(self._calls, batch)
        yield [Result(key=digest, reason=f"batch {batch.batch_id} has no result for it") for digest in silent]


class _Job:
    """What was asked for at once, and what has come of it."""

    def __init__(
        self, stored: CachedLLM, wanted: dict[str, Request], refuse: Callable[[Request], Reply | None]
    ) -> None:
        self.handed_over: Counter[str] = Counter()
        self._stored = stored
        self._wanted = wanted
        self._found: dict[str, Reply] = {}
        self._replies = {digest: reply for digest, request in wanted.items() if (reply := refuse(request))}

    def look_again(self) -> dict[str, Request]:
        """Return what has no reply yet and is not in the store either, by now."""
        for digest in self.missing():
            if reply := self._stored.find(digest):
                self._found[digest] = reply
                self._stored.count(reply, hit=True)
        return self.missing()

    def missing(self) -> dict[str, Request]:
        """Return what has no reply yet."""
        known = self._replies.keys() | self._found.keys()
        return {digest: request for digest, request in self._wanted.items() if digest not in known}

    def hear(self, results: Sequence[Result], failed: Callable[[FailureKind, str], Reply]) -> None:
        """Take in results; what can pass stays missing until it was handed over often enough."""
        for result in results:
            if result.key not in self._wanted or result.key in self._found:
                continue
            if result.reply is not None:
                self._replies[result.key] = result.reply
                self._stored.count(result.reply, hit=False)
            elif not result.can_pass or self.handed_over[result.key] >= ROUNDS:
                self._replies[result.key] = failed(result.kind, result.reason)

    def reply(self, digest: str) -> Reply:
        """Return the reply to one of the requests."""
        return self._found.get(digest) or self._replies[digest]
