"""Which questions are being asked right now, by all processes on a trace store, so that no two pay for the same."""

import time
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Literal

from filelock import FileLock, Timeout

from hybrid.errors import StorageError
from hybrid.llm.traces.database import TraceDatabase

_FIRST_LOOK_S = 0.02
_LONGEST_LOOK_S = 0.5
"""The pauses between the looks at a question that another process asks grow from one to the other."""


class Claims:
    """The questions that one opener of a store asks now. Safe across threads.

    A claim holds as long as its owner lives: the owner holds a lock file, which the operating system frees if it is killed.
    """

    def __init__(self, file: TraceDatabase) -> None:
        self._file = file
        self._owner = uuid.uuid4().hex
        self._lock = self._lock_of(self._owner)
        self._opening = Lock()
        if self._lock is not None:
            self._free = weakref.finalize(self, _free, self._lock)

    def take(self, digest: str) -> Literal["taken", "answered"]:
        """Wait while another asks this question; then claim it, unless there is an answer by then."""
        pause_s = _FIRST_LOOK_S
        while isinstance(outcome := self._try(digest), _Owner):
            if self._is_dead(outcome):
                with self._file.transaction() as db:
                    db.execute("DELETE FROM asking WHERE owner = ?", (outcome,))
                continue
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_LOOK_S)
        return outcome

    def release(self, digest: str) -> None:
        """Give up the claim on a question, answered or not."""
        if self._lock is not None:
            with self._file.transaction() as db:
                db.execute("DELETE FROM asking WHERE key = ? AND owner = ?", (digest, self._owner))

    def others(self) -> set[str]:
        """The questions that other live owners ask."""
        rows = self._file.read("SELECT key, owner FROM asking WHERE owner != ?", (self._owner,))
        alive = {owner for owner in {owner for _, owner in rows} if not self._is_dead(_Owner(owner))}
        return {digest for digest, owner in rows if owner in alive}

    def close(self) -> None:
        """Free the lock file and remove it."""
        if self._lock is not None:
            self._free()

    def _try(self, digest: str) -> "Literal['taken', 'answered'] | _Owner":
        if self._lock is None:
            return "taken"
        with self._opening, _locking(self._lock):
            if not self._lock.is_locked:
                self._lock.acquire(timeout=0)
        with self._file.transaction() as db:
            if db.execute("SELECT 1 FROM answers WHERE key = ?", (digest,)).fetchone():
                return "answered"
            claim = db.execute("SELECT owner FROM asking WHERE key = ?", (digest,)).fetchone()
            if claim is not None:
                return _Owner(claim[0])
            db.execute("INSERT INTO asking VALUES (?, ?)", (digest, self._owner))
            return "taken"

    def _is_dead(self, owner: "_Owner") -> bool:
        lock = self._lock_of(owner)
        assert lock is not None, "a store in memory has one owner"
        try:
            with _locking(lock), lock.acquire(timeout=0):
                pass
        except Timeout:
            return False
        _free(lock)
        return True

    def _lock_of(self, owner: str) -> FileLock | None:
        path = self._file.path
        if path is None:
            return None
        return FileLock(path.with_name(f"{path.name}.asking-{owner}.lock"), thread_local=False)


@contextmanager
def _locking(lock: FileLock) -> Iterator[None]:
    """Say which file could not be locked."""
    try:
        yield
    except Timeout:
        raise
    except (OSError, NotImplementedError) as error:
        raise StorageError(
            f"{lock.lock_file}: cannot be locked ({error}); expected a folder that this user can write to, on a file system "
            "with locks"
        ) from error


def _free(lock: FileLock) -> None:
    """Free a lock file and remove it."""
    lock.release()
    with suppress(OSError):
        Path(lock.lock_file).unlink()


class _Owner(str):
    """The name of an owner of claims."""

    __slots__ = ()
