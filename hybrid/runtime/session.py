"""A graph that is ready to run: from any thread, and in a child after a fork too."""

import ctypes
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime

from hybrid.errors import BundleError
from hybrid.threads import usable_threads

TWICE_BYTES = 128 << 20
"""A graph up to this size may be in memory twice, for the sake of speed."""
KNOWN_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class _File(msgspec.Struct, frozen=True):
    """What tells one file from another that took its place."""

    inode: int
    n_bytes: int
    changed_ns: int


class Session:
    """An onnxruntime session of a graph with int64 inputs [batch, sequence] and one output."""

    def __init__(self, path: Path, *, threads: int | None = None, dedicated: bool = False) -> None:
        """Load the graph.

        `threads` defaults to `usable_threads()`. `dedicated` lets idle threads spin: some microseconds a call
        sooner, at the price of a processor that is never idle.

        Raises:
            BundleError: the file cannot be loaded.
        """
        self._path = path
        self.threads = threads or usable_threads()
        self._dedicated = dedicated
        self._lock = threading.Lock()
        self._file = _file(path)
        self._session: onnxruntime.InferenceSession | None = self._open()
        self.inputs: tuple[str, ...] = tuple(wanted.name for wanted in self._session.get_inputs())
        self.output_shape: Sequence[int | str | None] = self._session.get_outputs()[0].shape
        _live.add(self)

    def check(self, n_labels: int) -> None:
        """Compare inputs and outputs with what an encoder of `n_labels` labels has.

        Raises:
            BundleError: it gives another number of logits, or asks for an input that we do not know.
        """
        width = self.output_shape[-1]
        if width != n_labels:
            raise BundleError(f"{self._path}: {width} logits for {n_labels} labels; rerun the recipe")
        unknown = set(self.inputs) - set(KNOWN_INPUTS)
        if unknown:
            raise BundleError(
                f"{self._path}: inputs {sorted(unknown)}; want some of {', '.join(KNOWN_INPUTS)}: export it again"
            )

    def run(self, feed: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the output for a feed that names every input."""
        return np.asarray((self._session or self._opened_here()).run(None, feed)[0])

    def with_one_thread(self) -> "Session":
        """Return a session of the same graph with one thread, to be called from several threads at once.

        It is this one where it has one thread, where the graph is too large to be in memory twice, or where its file
        was replaced since.
        """
        if self.threads == 1 or self._file.n_bytes > TWICE_BYTES:
            return self
        try:
            single = Session(self._path, threads=1)
        except BundleError:
            return self
        return single if single._file == self._file else self

    def _opened_here(self) -> onnxruntime.InferenceSession:
        """Return the session of a forked child, opened when it is first needed.

        Raises:
            BundleError: the file is no longer the one that the parent loaded.
        """
        with self._lock:
            if self._session is None:
                if _file(self._path) != self._file:
                    raise BundleError(
                        f"{self._path}: replaced since it was loaded, so a forked process cannot open it; load it anew"
                    )
                self._session = self._open()
            return self._session

    def _open(self) -> onnxruntime.InferenceSession:
        options = _options(self.threads, dedicated=self._dedicated)
        try:
            return onnxruntime.InferenceSession(str(self._path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own types are private
            raise BundleError(f"{self._path}: cannot be loaded: {error}; rerun the recipe") from error

    def forget_parent(self) -> None:
        """Set the session of the parent aside, in a child after a fork: its threads are not here.

        It stays in memory on purpose: to free it would wait for those threads for ever.
        """
        self._lock = threading.Lock()  # a thread of the parent may have held the old one
        if self._session is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session._sess))
            self._session = None


_live: weakref.WeakSet[Session] = weakref.WeakSet()


def _after_fork() -> None:
    for session in list(_live):
        session.forget_parent()


os.register_at_fork(after_in_child=_after_fork)


def _file(path: Path) -> _File:
    try:
        found = path.stat()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); copy the bundle again") from error
    return _File(found.st_ino, found.st_size, found.st_mtime_ns)


def _options(threads: int, *, dedicated: bool) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning starves the service beside it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if dedicated else "0")
    options.log_severity_level = 3
    return options
