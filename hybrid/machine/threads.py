"""How many threads to compute with: the processors that this process may use, and no more than its quota pays for."""

import os
from pathlib import Path

import msgspec

from hybrid.machine.cgroups import group_folders, words


class Threads(msgspec.Struct, frozen=True, kw_only=True):
    """How many threads to compute with, and what that follows from."""

    usable: int
    processors: int
    """The processors of the affinity mask, or of the machine on a system without one."""
    quota: float | None
    """The processors that the container may keep busy; None where it has no limit."""


def usable_threads(*, processors: int | None = None, cgroups: Path | None = None, mount: Path | None = None) -> int:
    """How many threads to compute with; see `threads`."""
    return threads(processors=processors, cgroups=cgroups, mount=mount).usable


def threads(*, processors: int | None = None, cgroups: Path | None = None, mount: Path | None = None) -> Threads:
    """The processors of the affinity mask, or the CPU quota of the container where that is less.

    `processors` stands for the affinity mask where it is given. A quota of 2.5 processors gives 2 threads: a third
    would have all three stopped for a part of every period. A quota above the own group counts too.
    """
    allowed = processors or _affinity()
    folders = group_folders("cpu", cgroups=cgroups, mount=mount)
    quota = min((quota for folder in folders if (quota := _quota(folder)) is not None), default=None)
    usable = allowed if quota is None else min(allowed, int(quota))
    return Threads(usable=max(1, usable), processors=allowed, quota=quota)


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota(folder: Path) -> float | None:
    """The number of processors that a group may keep busy; None where it has no limit."""
    quota, period = (
        words(folder / "cpu.max")
        or (words(folder / "cpu.cfs_quota_us") + words(folder / "cpu.cfs_period_us"))
        or ("max", "1")
    )
    if quota in ("max", "-1"):
        return None
    return int(quota) / int(period)
