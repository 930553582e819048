"""Locks between processes: a lock file that one process at a time holds, on Linux, macOS and Windows."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from hybrid.errors import StorageError

WAIT_FOR_EVER = -1


@contextmanager
def file_lock(path: Path, *, refusal: str = "") -> Iterator[None]:
    """Hold the lock file at `path` until the block ends; the operating system frees it if the process dies.

    Args:
        path: the lock file, made where there is none; its folder must exist.
        refusal: the message of the error if somebody else holds the lock. Without one, wait until it is free.

    Raises:
        StorageError: somebody else holds the lock, and there is a `refusal`.
        OSError: the file cannot be made.
    """
    lock = FileLock(path, timeout=0 if refusal else WAIT_FOR_EVER)
    try:
        lock.acquire()
    except Timeout:
        raise StorageError(refusal) from None
    try:
        yield
    finally:
        lock.release()
