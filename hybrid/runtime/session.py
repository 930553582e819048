"""A graph that is ready to run: from any thread, and in a child after a fork too."""

import ctypes
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np
import onnxruntime

from hybrid.errors import BundleError
from hybrid.machine.threads import usable_threads

MAX_BYTES_TWICE = 128 << 20
"""A graph up to this size may be in memory twice, for the sake of speed."""
KNOWN_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class _FileId(msgspec.Struct, frozen=True):
    """What tells a file from another that took its place."""

    inode: int
    n_bytes: int
    changed_ns: int


class Session:
    """An onnxruntime session of a graph with int64 inputs [batch, sequence] and one output."""

    def __init__(self, path: Path, *, threads: int | None = None, spin_wait: bool = False) -> None:
        """Load the graph.

        `threads` defaults to `usable_threads()`. `spin_wait` lets idle threads spin: a call ends some microseconds
        sooner, at the price of processors that are never idle.

        Raises:
            BundleError: the file cannot be loaded.
        """
        self._path = path
        self.threads = threads or usable_threads()
        self._spin_wait = spin_wait
        self._lock = threading.Lock()
        self._file = _file_id(path)
        self._session: onnxruntime.InferenceSession | None = self._open()
        self.inputs: tuple[str, ...] = tuple(graph_input.name for graph_input in self._session.get_inputs())
        self.output_shape: Sequence[int | str | None] = self._session.get_outputs()[0].shape
        reset_in_children(self)

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
                f"{self._path}: inputs {sorted(unknown)}; expected some of {', '.join(KNOWN_INPUTS)}: export it again"
            )

    def run(self, feed: Mapping[str, np.ndarray]) -> np.ndarray:
        """Run the graph on a feed that names every input."""
        return np.asarray((self._session or self._reopened()).run(None, feed)[0])

    def with_one_thread(self) -> "Session":
        """Open a session of the same graph with one thread, to be called from several threads at once.

        It is this one where it has one thread, where the graph is too large to be in memory twice, or where its file
        was replaced since.
        """
        if self.threads == 1 or self._file.n_bytes > MAX_BYTES_TWICE:
            return self
        try:
            single = Session(self._path, threads=1)
        except BundleError:
            return self
        return single if single._file == self._file else self

    def reset_after_fork(self) -> None:
        """Set the session of the parent aside, in a child after a fork: its threads are not here.

        It stays in memory on purpose: to free it would wait for those threads for ever.
        """
        self._lock = threading.Lock()  # a thread of the parent may have held the old one
        if self._session is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session._sess))
            self._session = None

    def _reopened(self) -> onnxruntime.InferenceSession:
        """The session of a forked child, opened when it is first needed.

        Raises:
            BundleError: the file is no longer the one that the parent loaded.
        """
        with self._lock:
            if self._session is None:
                if _file_id(self._path) != self._file:
                    raise BundleError(
                        f"{self._path}: replaced since it was loaded, so a forked process cannot open it; load it anew"
                    )
                self._session = self._open()
            return self._session

    def _open(self) -> onnxruntime.InferenceSession:
        options = _options(self.threads, spin_wait=self._spin_wait)
        try:
            return onnxruntime.InferenceSession(str(self._path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own types are private
            raise BundleError(f"{self._path}: cannot be loaded: {error}; rerun the recipe") from error


class Resettable(Protocol):
    """Holds threads or locks, which a forked child does not have."""

    def reset_after_fork(self) -> None:
        """Let go of what belongs to the parent; called in the child."""


_live: weakref.WeakSet[Resettable] = weakref.WeakSet()


def reset_in_children(instance: Resettable) -> None:
    """Have `instance` reset in every child that this process forks, for as long as it lives."""
    _live.add(instance)
    _register_once()


@cache
def _register_once() -> None:
    if hasattr(os, "register_at_fork"):  # Windows has no fork, and nothing to reset
        os.register_at_fork(after_in_child=_reset_all)


def _reset_all() -> None:
    for instance in list(_live):
        instance.reset_after_fork()


def _file_id(path: Path) -> _FileId:
    try:
        status = path.stat()
    except OSError as error:
        raise BundleError(f"{path}: cannot be read ({error.strerror}); copy the bundle again") from error
    return _FileId(status.st_ino, status.st_size, status.st_mtime_ns)


def _options(threads: int, *, spin_wait: bool) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning starves the service beside it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin_wait else "0")
    options.log_severity_level = 3
    return options
