"""Texts to tokens, off the event loop where that is worth a thread."""

import asyncio
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from hybrid.runtime.text_encoder import Encoded, TextEncoder
from serving.errors import UnanswerableError
from serving.scheduler.admission import Backlog
from serving.types import Truncate

THREADS = 2
INLINE_BYTES = 1000
"""A request of at most this much text is tokenized on the event loop: that is faster than waking a thread."""


def open_pool() -> ThreadPoolExecutor:
    """Create the tokenizer threads; each works at one request."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the library would start threads of its own
    return ThreadPoolExecutor(THREADS, thread_name_prefix="tokenise")


class RequestTokenizer:
    """Tokenizes requests as one bundle does, or cut off as a request asks."""

    def __init__(self, own: TextEncoder, pool: ThreadPoolExecutor, backlog: Backlog) -> None:
        self._own = own
        self._cutting: dict[str, TextEncoder] = {}
        self._pool = pool
        self._backlog = backlog

    async def encode(
        self, texts: Sequence[str], n_bytes: int, truncate: Truncate | None, *, offsets: bool = False
    ) -> list[Encoded]:
        """Return the tokens of each text, with their places in it if `offsets`.

        Raises:
            UnanswerableError: a text is too long and `truncate` is `error`, or it is not valid Unicode.
        """
        with self._backlog.reading(n_bytes):
            began = time.perf_counter()
            if n_bytes <= INLINE_BYTES and (truncate in (None, "error") or truncate in self._cutting):
                encoded = self._encode(texts, truncate, offsets)
            else:
                loop = asyncio.get_running_loop()
                encoded = await loop.run_in_executor(self._pool, self._encode, texts, truncate, offsets)
        if n_bytes:
            self._backlog.learn(n_bytes, sum(map(len, encoded)), time.perf_counter() - began)
        if truncate == "error":
            _refuse_long(encoded, self._own.reading.max_length)
        return encoded

    def _encode(self, texts: Sequence[str], truncate: Truncate | None, offsets: bool) -> list[Encoded]:
        text_encoder = self._text_encoder(truncate)
        try:
            return text_encoder.read_with_offsets(texts) if offsets else text_encoder.read(texts)
        except (TypeError, UnicodeEncodeError) as error:  # half of a surrogate pair
            raise UnanswerableError(_not_unicode(texts)) from error

    def _text_encoder(self, truncate: Truncate | None) -> TextEncoder:
        if truncate is None or truncate == "error":
            return self._own
        if truncate not in self._cutting:
            # Two threads may both make one: either is as good as the other.
            self._cutting[truncate] = self._own.cutting(truncate)
        return self._cutting[truncate]


def _not_unicode(texts: Sequence[str]) -> str:
    for item, text in enumerate(texts):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            return f"item {item}: not Unicode text at character {error.start}; send whole characters"
    return "a text cannot be tokenised; send plain Unicode text"


def _refuse_long(encoded: Sequence[Encoded], max_length: int) -> None:
    for item, text in enumerate(encoded):
        if text.truncated:
            raise UnanswerableError(
                f"item {item}: longer than the {max_length} tokens that this bundle reads; shorten it, or ask for "
                "truncate = right or left",
                item=item,
            )
