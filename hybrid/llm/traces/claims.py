"""Which questions are being asked right now, by all processes on a trace store, so that no two pay for the same."""

import time
import uuid
import weakref
from collections.abc import Callable, Iterator
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
SAY_AFTER_S = 10.0
"""A wait is said on the screen once it is longer than most calls."""
MAX_WAIT_S = 3600.0
"""A wait ends in an error after this: no call takes so long, so the process that asks is stuck."""


class Claims:
    """The questions that one opener of a store asks now. Safe across threads.

    A claim holds as long as its owner lives: the owner holds a lock file, which the operating system frees if it is killed.
    """

    def __init__(
        self,
        file: TraceDatabase,
        say: Callable[[str], None] | None = None,
        *,
        say_after_s: float = SAY_AFTER_S,
        max_wait_s: float = MAX_WAIT_S,
    ) -> None:
        """Ask questions of a store; `say` is told, once, when one waits for another process."""
        self._file = file
        self._say = say
        self._say_after_s = say_after_s
        self._max_wait_s = max_wait_s
        self._owner = uuid.uuid4().hex
        self._lock = self._lock_of(self._owner)
        self._opening = Lock()
        if self._lock is not None:
            self._free = weakref.finalize(self, _free, self._lock)

    def take(self, digest: str) -> Literal["taken", "answered"]:
        """Wait while another asks this question; then claim it, unless there is an answer by then.

        Raises:
            StorageError: another has been asking it for longer than any call takes.
        """
        pause_s, began = _FIRST_LOOK_S, time.monotonic()
        while isinstance(outcome := self._try(digest), _Owner):
            if self._is_dead(outcome):
                with self._file.transaction() as db:
                    db.execute("DELETE FROM asking WHERE owner = ?", (outcome,))
                continue
            self._note_wait(time.monotonic() - began)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_LOOK_S)
        return outcome

    def _note_wait(self, waited_s: float) -> None:
        if waited_s >= self._max_wait_s:
            raise StorageError(
                f"{self._file.path}: another run has been asking a question of this one for {waited_s / 60:.0f} minutes; "
                "end that run, then start this one again"
            )
        if waited_s >= self._say_after_s and self._say:
            say, self._say = self._say, None
            say(f"waiting for another run that asks the same questions with {self._file.path}; its answers are shared")

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
