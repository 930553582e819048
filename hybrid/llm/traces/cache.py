"""The trace store: every answer that was paid for, on disk, keyed by the whole request."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Protocol, runtime_checkable

import msgspec
from msgspec import UNSET

from hybrid.llm.answers import judged
from hybrid.llm.request import LLM, Reply, Request, key
from hybrid.llm.traces.claims import Claims
from hybrid.llm.traces.database import TraceDatabase

_STRIPES = 1024
"""Locks that keep threads from asking the same question at once; each stands for many questions."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Calls, tokens and cost of a model since it was opened."""

    calls: int = 0
    """Requests that went to the model."""
    hits: int = 0
    """Requests that the store answered."""
    input_tokens: int = 0
    output_tokens: int = 0
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0
    odd_usage: int = 0
    """Calls for which the server stated no token counts that a call can have; their cost is the most they could cost."""
    cost_usd: float | None = 0.0
    """The cost of the calls; None where the price of any is not known."""
    answers_cost_usd: float | None = 0.0
    """The cost of all answers when they were first given, hits included; None where any is not known."""


class CachedLLM:
    """A language model with a store: it calls the model behind it only for answers that the store lacks.

    Safe across threads and processes. Each ok answer is committed as it arrives, so a kill loses only the calls in
    flight. Failed, refused and cut-off replies are never stored, unreadable ones apart from the answers. Whoever asks the
    same question at the same time, in this process or another, calls once.
    """

    def __init__(self, llm: LLM, file: TraceDatabase | Path, say: Callable[[str], None] | None = None) -> None:
        """Open the store, creating it where there is none; `say` is told of waits for another process.

        Raises:
            StorageError: the file cannot be opened or is not a store.
        """
        self._llm = llm
        self.file = TraceDatabase(file) if isinstance(file, Path) else file
        self._lock = Lock()
        self._asking = [Lock() for _ in range(_STRIPES)]
        self.claims = Claims(self.file, say)
        self._usage = Usage()

    @property
    def name(self) -> str:
        """The name of the model behind the store."""
        return self._llm.name

    def ask(self, request: Request) -> Reply:
        """Answer a request from the store, or else by the model, whose ok answer is then stored."""
        digest = key(self.name, request)
        with self._asking[int(digest[:8], 16) % _STRIPES]:
            stored = self.find(digest)
            if stored is None and self.claims.take(digest) == "answered":
                stored = self.find(digest)
            if stored is not None:
                self.count(stored, hit=True)
                return stored
            try:
                return self._ask_and_store(digest, request)
            finally:
                self.claims.release(digest)

    def _ask_and_store(self, digest: str, request: Request) -> Reply:
        reply = judged(request, self._llm.ask(request))
        self.count(reply, hit=False)
        if reply.status in ("ok", "unreadable"):
            with self.file.transaction() as db:
                store_answer(db, digest, self.name, request, reply)
        return reply

    def find(self, digest: str) -> Reply | None:
        """Look up the answer stored under the key of a request; None if there is none."""
        rows = self.file.read("SELECT reply FROM answers WHERE key = ?", (digest,))
        return msgspec.json.decode(rows[0][0], type=Reply) if rows else None

    def usage(self) -> Usage:
        """Calls, tokens and cost of this instance."""
        with self._lock:
            return self._usage

    def close(self) -> None:
        """Close the file; the store cannot be used after it."""
        self.claims.close()
        self.file.close()

    def count(self, reply: Reply, *, hit: bool) -> None:
        """Add a reply to the usage: a hit came from the store, any other from the model."""
        with self._lock:
            previous = self._usage
            self._usage = Usage(
                calls=previous.calls + (not hit),
                hits=previous.hits + hit,
                input_tokens=previous.input_tokens + (0 if hit else reply.input_tokens),
                output_tokens=previous.output_tokens + (0 if hit else reply.output_tokens),
                cache_write_tokens=previous.cache_write_tokens + (0 if hit else reply.cache_write_tokens),
                cache_read_tokens=previous.cache_read_tokens + (0 if hit else reply.cache_read_tokens),
                odd_usage=previous.odd_usage + (not hit and reply.odd_usage is not UNSET),
                cost_usd=previous.cost_usd if hit else _sum(previous.cost_usd, reply.cost_usd),
                answers_cost_usd=_sum(previous.answers_cost_usd, reply.cost_usd),
            )


@runtime_checkable
class Counted(Protocol):
    """A language model that counts its usage."""

    def usage(self) -> Usage:
        """Calls, tokens and cost of this instance."""


def store_answer(db: sqlite3.Connection, digest: str, model: str, request: Request, reply: Reply) -> None:
    """Write an answer under its key, within a transaction. One that is there already stays.

    An unreadable one is kept apart, the last in the place of those before: its question is asked again.
    """
    row = (digest, model, msgspec.json.encode(request).decode(), msgspec.json.encode(reply).decode())
    if judged(request, reply).status == "unreadable":
        db.execute("INSERT OR REPLACE INTO unreadable VALUES (?, ?, ?, ?)", row)
    else:
        db.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?)", row)


def usage_of(llm: LLM | None) -> Usage | None:
    """The usage of a model, if it counts its usage; else None (absent, recorded, or without a store)."""
    return llm.usage() if isinstance(llm, Counted) else None


def _sum(left: float | None, right: float | None) -> float | None:
    return None if left is None or right is None else left + right
