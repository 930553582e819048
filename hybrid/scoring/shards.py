"""Shards: slices of the parts of one output, for jobs that run many processes of one command on many machines."""

import re

import msgspec

from hybrid.errors import ConfigError
from hybrid.scoring.tally import Tally


class Shard(msgspec.Struct, frozen=True):
    """One slice of several."""

    number: int
    """From 1 on."""
    count: int

    def __str__(self) -> str:
        """Return the form that is read: "3/64"."""
        return f"{self.number}/{self.count}"

    def numbers(self, n_parts: int) -> range:
        """Return the numbers of the shard's parts: neighbours, so that a file is read from one place on."""
        return range(n_parts * (self.number - 1) // self.count, n_parts * self.number // self.count)


class ShardReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one shard leaves behind."""

    shard: str
    parts: int
    """The parts of this shard, which are all there."""
    parts_done: int
    """The parts of all shards that are there."""
    parts_all: int
    tally: Tally | None
    """The counts of the whole output, if this shard finished it."""


def read_shard(text: str) -> Shard:
    """Read a shard such as "3/64".

    Raises:
        ConfigError: it is none.
    """
    match = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(
            f"--shard {text:.40}: expected K/N with K from 1 to N, such as 3/64; where a scheduler counts from 0, add 1"
        )
    return Shard(int(match[1]), int(match[2]))
