"""Texts to tokens, off the event loop."""

import asyncio
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from hybrid.runtime.text_encoder import Encoded, TextEncoder
from serving.answers import Truncate
from serving.deadline import Deadline
from serving.errors import DeadlineError, UnanswerableError
from serving.scheduler.admission import Backlog

THREADS = 2
INLINE_BYTES = 1000
"""A request of no more text is read on the event loop: it takes less time there than to wake a thread."""


def open_pool() -> ThreadPoolExecutor:
    """Return the threads that tokenise; each works at one request."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the library would start threads of its own
    return ThreadPoolExecutor(THREADS, thread_name_prefix="tokenise")


class RequestTokenizer:
    """The readers of one bundle: its own, and those that a request asks for instead."""

    def __init__(self, reader: TextEncoder, pool: ThreadPoolExecutor, held: Backlog) -> None:
        self._own = reader
        self._cutting: dict[str, TextEncoder] = {}
        self._pool = pool
        self._held = held

    async def read(
        self, texts: Sequence[str], n_bytes: int, truncate: Truncate | None, deadline: Deadline
    ) -> list[Encoded]:
        """Return the tokens of each text.

        Raises:
            UnanswerableError: a text is too long and `truncate` is `error`, or is no sequence of characters.
            DeadlineError: the deadline passed first.
        """
        with self._held.reading(n_bytes):
            began = time.perf_counter()
            if n_bytes <= INLINE_BYTES and (truncate in (None, "error") or truncate in self._cutting):
                encoded = self._read(texts, truncate)
            else:
                encoded = await self._in_thread(texts, truncate, deadline)
        if n_bytes:
            self._held.learn(n_bytes, sum(map(len, encoded)), time.perf_counter() - began)
        if truncate == "error":
            _refuse_long(encoded, self._own.reading.max_length)
        return encoded

    async def _in_thread(self, texts: Sequence[str], truncate: Truncate | None, deadline: Deadline) -> list[Encoded]:
        work = asyncio.get_running_loop().run_in_executor(self._pool, self._read, texts, truncate)
        try:
            return await asyncio.wait_for(work, max(deadline.left_s(), 0))
        except TimeoutError as error:
            raise DeadlineError("tokenise", deadline.timeout_s) from error

    def _read(self, texts: Sequence[str], truncate: Truncate | None) -> list[Encoded]:
        reader = self._reader(truncate)
        try:
            return reader.read(texts)
        except (TypeError, UnicodeEncodeError) as error:  # a lone surrogate
            raise UnanswerableError(*_culprit(texts)) from error

    def _reader(self, truncate: Truncate | None) -> TextEncoder:
        if truncate is None or truncate == "error":
            return self._own
        if truncate not in self._cutting:
            # Two threads may both make one: either is as good as the other.
            self._cutting[truncate] = self._own.cutting(truncate)
        return self._cutting[truncate]


def _culprit(texts: Sequence[str]) -> tuple[str]:
    for item, text in enumerate(texts):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return (f"item {item}: not Unicode text at character {error.start}; send whole characters",)
    return ("a text cannot be tokenised; send plain Unicode text",)


def _refuse_long(encoded: Sequence[Encoded], max_length: int) -> None:
    for item, one in enumerate(encoded):
        if one.truncated:
            raise UnanswerableError(
                f"item {item}: longer than the {max_length} tokens that this bundle reads; shorten it, or ask for "
                "truncate = right or left",
                item=item,
            )
