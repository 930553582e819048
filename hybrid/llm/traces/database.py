"""The trace store: one SQLite file for a project, with its answers, every call that was made for them, and the batches."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

import msgspec

from hybrid.errors import StorageError
from hybrid.files.write_ahead_log import use_write_ahead_log
from hybrid.llm.answers import judged
from hybrid.llm.request import Reply, Request

_FIRST_TABLES = (
    """CREATE TABLE IF NOT EXISTS answers (
        key TEXT PRIMARY KEY, model TEXT NOT NULL, request TEXT NOT NULL, reply TEXT NOT NULL
    ) WITHOUT ROWID""",
    # Money is kept in whole billionths of a dollar, so that sums are exact.
    """CREATE TABLE IF NOT EXISTS calls (
        id INTEGER PRIMARY KEY, key TEXT NOT NULL, role TEXT NOT NULL, model TEXT NOT NULL, batch INTEGER,
        sent_at REAL NOT NULL, bytes INTEGER NOT NULL, state TEXT NOT NULL, status TEXT NOT NULL DEFAULT '', request TEXT,
        worst_nano INTEGER, cost_nano INTEGER,
        input_tokens INTEGER NOT NULL DEFAULT 0, output_tokens INTEGER NOT NULL DEFAULT 0,
        cache_write_tokens INTEGER NOT NULL DEFAULT 0, cache_read_tokens INTEGER NOT NULL DEFAULT 0
    )""",
    "CREATE INDEX IF NOT EXISTS calls_of_batch ON calls (batch) WHERE batch IS NOT NULL",
    "CREATE TABLE IF NOT EXISTS spent (role TEXT PRIMARY KEY, nano INTEGER NOT NULL) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS batches (
        id INTEGER PRIMARY KEY, role TEXT NOT NULL, model TEXT NOT NULL, created_at REAL NOT NULL,
        batch_id TEXT UNIQUE, state TEXT NOT NULL
    )""",
)
_UNREADABLE_AND_ASKING = (
    # The last unreadable answer to a question, for people; a run asks the question again.
    """CREATE TABLE IF NOT EXISTS unreadable (
        key TEXT PRIMARY KEY, model TEXT NOT NULL, request TEXT NOT NULL, reply TEXT NOT NULL
    ) WITHOUT ROWID""",
    # The questions that live processes ask now: `hybrid.llm.traces.claims`.
    "CREATE TABLE IF NOT EXISTS asking (key TEXT PRIMARY KEY, owner TEXT NOT NULL) WITHOUT ROWID",
    "INSERT OR REPLACE INTO unreadable SELECT * FROM answers WHERE is_unreadable(request, reply)",
    "DELETE FROM answers WHERE key IN (SELECT key FROM unreadable)",
)
_MIGRATIONS = (_FIRST_TABLES, _UNREADABLE_AND_ASKING)
"""What brings a store from version n to n + 1, at place n. A store of version 0 is new, or was written before stores
carried a version; both get the first tables, as far as they lack them."""
VERSION = len(_MIGRATIONS)
"""The version of the tables that this code reads and writes, kept in SQLite's `user_version`."""
Values = Sequence[Any]


class TraceDatabase:
    """An open trace store. Safe across threads and processes."""

    def __init__(self, path: Path | None) -> None:
        """Open the file, creating it where there is none; None: in memory, for this process alone.

        A store of an earlier version is brought to this one; its answers and its books stay.

        Raises:
            StorageError: the file cannot be opened, is not a trace store, or is one of a later version.
        """
        self.path = path
        self._lock = RLock()
        with self._storage():
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path or ":memory:", timeout=60, isolation_level=None, check_same_thread=False)
            use_write_ahead_log(self._db)
        if self._version() != VERSION:
            self._migrate()

    def read(self, statement: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """Run a query and return its rows."""
        with self._lock, self._storage():
            return self._db.execute(statement, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Hold the file exclusively, over all processes, until the block ends; an error rolls everything back."""
        with self._lock, self._storage():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                # A full disk has ended the transaction by itself.
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def close(self) -> None:
        """Close the file; the store cannot be used after it."""
        with self._lock:
            self._db.close()

    def _version(self) -> int:
        return int(self.read("PRAGMA user_version")[0][0])

    def _migrate(self) -> None:
        with self.transaction() as db:
            # Another process may have been first.
            version = self._version()
            if version > VERSION:
                raise StorageError(
                    f"{self.path}: a trace store of version {version}, and this hybrid reads versions up to {VERSION}; "
                    "install the hybrid that wrote it, or a later one"
                )
            db.create_function("is_unreadable", 2, _is_unreadable, deterministic=True)
            for statements in _MIGRATIONS[version:]:
                for statement in statements:
                    db.execute(statement)
            db.execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def _storage(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise StorageError(
                f"{self.path}: the trace store cannot be used ({error}); free some space, or move the file away "
                "if it is damaged, then run again: stored answers are kept"
            ) from error


def _is_unreadable(request: str, reply: str) -> bool:
    """Whether an answer that an earlier version stored is none that can be read."""
    try:
        stored = msgspec.json.decode(reply, type=Reply)
        return judged(msgspec.json.decode(request, type=Request), stored).status == "unreadable"
    except msgspec.MsgspecError:
        # What is no answer at all is named where it is read.
        return False
