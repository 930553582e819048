"""The trace store: every answer that was paid for, on disk, keyed by the whole request."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import msgspec

from hybrid.errors import StorageError
from hybrid.llm.request import LLM, Reply, Request, key

_SCHEMA = """CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, request TEXT NOT NULL, reply TEXT NOT NULL
) WITHOUT ROWID"""
_STRIPES = 1024


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What a model was asked since it was opened."""

    calls: int = 0
    """Requests that went to the model."""
    hits: int = 0
    """Requests that the store answered."""
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float | None = 0.0
    """What the calls cost; None where the price of any is not known."""
    answers_cost_usd: float | None = 0.0
    """What all the answers cost when they were asked for, hits included; None where not known."""


class Stored:
    """A language model that asks another only for what the store lacks.

    Safe across threads and processes. Each ok answer is committed as it comes, so a kill loses
    only those in flight; what failed, was refused or was cut off is never stored. Two threads with
    the same request ask once.
    """

    def __init__(self, llm: LLM, path: Path) -> None:
        """Open the store, creating it where there is none.

        Raises:
            StorageError: the file cannot be opened or is not a store.
        """
        self._llm = llm
        self._path = path
        self._lock = Lock()
        self._asking = [Lock() for _ in range(_STRIPES)]
        self._usage = Usage()
        with self._storage():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute(_SCHEMA)

    @property
    def name(self) -> str:
        """The name of the model behind the store."""
        return self._llm.name

    def ask(self, request: Request) -> Reply:
        """Return the stored answer, or the model's, stored if it is ok."""
        digest = key(self.name, request)
        with self._asking[int(digest[:8], 16) % _STRIPES]:
            found = self._read(digest)
            if found is not None:
                self._count(found, hit=True)
                return found
            reply = self._llm.ask(request)
            self._count(reply, hit=False)
            if reply.status == "ok":
                self._write(digest, request, reply)
            return reply

    def usage(self) -> Usage:
        """Return what was asked through this instance."""
        with self._lock:
            return self._usage

    def close(self) -> None:
        """Close the file; the store cannot be asked after it."""
        with self._lock:
            self._db.close()

    def _read(self, digest: str) -> Reply | None:
        with self._lock, self._storage():
            row = self._db.execute("SELECT reply FROM answers WHERE key = ?", (digest,)).fetchone()
        return msgspec.json.decode(row[0], type=Reply) if row else None

    def _write(self, digest: str, request: Request, reply: Reply) -> None:
        asked, said = (msgspec.json.encode(value).decode() for value in (request, reply))
        with self._lock, self._storage():
            self._db.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?)", (digest, self.name, asked, said))

    def _count(self, reply: Reply, *, hit: bool) -> None:
        with self._lock:
            was = self._usage
            self._usage = Usage(
                calls=was.calls + (not hit),
                hits=was.hits + hit,
                input_tokens=was.input_tokens + (0 if hit else reply.input_tokens),
                output_tokens=was.output_tokens + (0 if hit else reply.output_tokens),
                cost_usd=was.cost_usd if hit else _sum(was.cost_usd, reply.cost_usd),
                answers_cost_usd=_sum(was.answers_cost_usd, reply.cost_usd),
            )

    @contextmanager
    def _storage(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StorageError(
                f"{self._path}: the trace store cannot be used ({error}); free some space, or move the file away "
                "if it is damaged, then run again: stored answers are kept"
            ) from error


def usage_of(llm: LLM | None) -> Usage | None:
    """Return what was asked through a store; None for a model that has none (absent, recorded, or not wrapped)."""
    return llm.usage() if isinstance(llm, Stored) else None


def _sum(left: float | None, right: float | None) -> float | None:
    return None if left is None or right is None else left + right
