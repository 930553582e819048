"""A graph that is ready to run: from any thread, and in a child after a fork too."""

import os
import threading
import weakref
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np

from hybrid.errors import BundleError
from hybrid.machine.threads import usable_threads
from hybrid.runtime.engines import DEFAULT_ENGINE, engine_of
from hybrid.runtime.engines.open_graph import Lanes, OpenGraph, Outputs

MAX_BYTES_TWICE = 128 << 20
"""A graph up to this size may be in memory twice, for the sake of speed."""
KNOWN_INPUTS = ("input_ids", "attention_mask", "token_type_ids")


class _FileId(msgspec.Struct, frozen=True):
    """What tells a file from another that took its place."""

    inode: int
    n_bytes: int
    changed_ns: int


class Session:
    """A graph with int64 inputs [batch, sequence] and one output, or that of an evidence head too, open in one of the
    `ENGINES`."""

    def __init__(
        self,
        path: Path,
        *,
        threads: int | None = None,
        spin_wait: bool = False,
        engine: str = DEFAULT_ENGINE,
        calls: int = 1,
    ) -> None:
        """Load the graph.

        `threads` defaults to `usable_threads()`; they are those of one call, of which `calls` run at once. `spin_wait`
        lets idle threads spin: a call ends some microseconds sooner, at the price of processors that are never idle.

        Raises:
            BundleError: the file cannot be loaded.
            ConfigError: the engine does not exist, or cannot run here.
        """
        self._path = path
        self._engine = engine
        self._lanes = Lanes(threads=threads or usable_threads(), calls=calls, spin_wait=spin_wait)
        self.threads = self._lanes.threads
        self._lock = threading.Lock()
        self._file = _file_id(path)
        self._graph: OpenGraph | None = self._open()
        self.inputs: tuple[str, ...] = self._graph.inputs
        self.in_bf16 = self._graph.in_bf16
        """Whether the engine computes an fp32 graph in bf16."""
        self.has_evidence = self._graph.has_evidence
        """Whether the graph has the output of an evidence head."""
        self._n_outputs = self._graph.n_outputs
        reset_in_children(self)

    def check(self, n_labels: int) -> None:
        """Compare inputs and outputs with what an encoder of `n_labels` labels has.

        Raises:
            BundleError: it gives another number of logits, or asks for an input that we do not know.
        """
        if self._n_outputs != n_labels:
            raise BundleError(f"{self._path}: {self._n_outputs} logits for {n_labels} labels; rerun the recipe")
        unknown = set(self.inputs) - set(KNOWN_INPUTS)
        if unknown:
            raise BundleError(
                f"{self._path}: inputs {sorted(unknown)}; expected some of {', '.join(KNOWN_INPUTS)}: export it again"
            )

    def run(self, feed: Mapping[str, np.ndarray]) -> np.ndarray:
        """Compute the logits of the labels, [n, k], for a feed that names every input."""
        return self.outputs(feed).logits

    def outputs(self, feed: Mapping[str, np.ndarray]) -> Outputs:
        """Compute every output of the graph for a feed that names every input."""
        return (self._graph or self._reopened()).run(feed)

    def with_one_thread(self) -> "Session":
        """Open a session of the same graph with one thread a call, to be called from several threads at once.

        It is this one where it has one thread, where its engine shares one session among calls, where the graph is too
        large to be in memory twice, or where its file was replaced since.
        """
        if self.threads == 1 or self._file.n_bytes > MAX_BYTES_TWICE or engine_of(self._engine).one_session:
            return self
        try:
            single = Session(self._path, threads=1, calls=self.threads, engine=self._engine)
        except BundleError:
            return self
        return single if single._file == self._file else self

    def reset_after_fork(self) -> None:
        """Set the graph of the parent aside, in a child after a fork: its threads are not here."""
        self._lock = threading.Lock()  # a thread of the parent may have held the old one
        if self._graph is not None:
            self._graph.abandon()
            self._graph = None

    def _reopened(self) -> OpenGraph:
        """The graph of a forked child, opened when it is first needed.

        Raises:
            BundleError: the file is no longer the one that the parent loaded.
        """
        with self._lock:
            if self._graph is None:
                if _file_id(self._path) != self._file:
                    raise BundleError(
                        f"{self._path}: replaced since it was loaded, so a forked process cannot open it; load it anew"
                    )
                self._graph = self._open()
            return self._graph

    def _open(self) -> OpenGraph:
        return engine_of(self._engine).open(self._path, self._lanes)


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
