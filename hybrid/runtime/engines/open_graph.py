"""What every engine gives: a graph that is open, whatever library runs it."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

if TYPE_CHECKING:  # a command line that offers the engines does not load arrays
    import numpy as np


EVIDENCE = "evidence"
"""The output of a graph that has an evidence head: a logit for each token."""


class Lanes(msgspec.Struct, frozen=True, kw_only=True):
    """How a graph is to run."""

    threads: int
    """Threads that one call computes with."""
    calls: int = 1
    """Calls that run at once, each with its own threads."""
    spin_wait: bool = False
    """Whether idle threads spin: a call ends some microseconds sooner, at the price of processors that are never idle."""


def in_utf8(path: Path) -> str:
    """Spell a path as libraries in C++ take it, which read UTF-8 whatever the locale says."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


class Outputs(NamedTuple):
    """What a graph gives for a batch. (A plain tuple: it is made for every text.)"""

    logits: "np.ndarray"
    """Of the labels, float32 [batch, k]."""
    token_logits: "np.ndarray | None"
    """Of the evidence head, float32 [batch, sequence], padding included; None where the graph has none."""


class OpenGraph(Protocol):
    """A graph with int64 inputs [batch, sequence] and an output [batch, k], and perhaps one a token. Several threads may
    call it."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of its inputs."""

    @property
    def n_outputs(self) -> int | str | None:
        """The width of its output; a name or None where the graph leaves it open."""

    @property
    def has_evidence(self) -> bool:
        """Whether it has the output of an evidence head."""

    @property
    def in_bf16(self) -> bool:
        """Whether it computes an fp32 graph in bf16."""

    def run(self, feed: "Mapping[str, np.ndarray]") -> Outputs:
        """Run the graph on a feed that names every input."""

    def abandon(self) -> None:
        """Keep it in memory for ever, in a child after a fork: to free it would wait for threads that are not here."""
