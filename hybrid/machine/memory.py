"""How much memory this process may use: that of the machine, or of its container where that is less."""

import os
from pathlib import Path

import msgspec

from hybrid.machine.cgroups import group_folders, words

MEMINFO = Path("/proc/meminfo")


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of memory. A figure that the system does not tell is None."""

    total: int | None
    """What the machine has, or the container's limit where that is less."""
    available: int | None
    """What can be used now without swapping: free memory and caches that the system would give up."""


def memory(*, meminfo: Path | None = None, cgroups: Path | None = None, mount: Path | None = None) -> Memory:
    """The memory of this process, from `/proc/meminfo` and the limits of its control groups.

    Elsewhere than on Linux the total is asked of the system, and what is available where psutil is installed.
    """
    kilobytes = _meminfo(meminfo or MEMINFO)
    if not kilobytes:
        return _memory_elsewhere()
    total, available = 1024 * kilobytes["MemTotal"], 1024 * kilobytes.get("MemAvailable", kilobytes["MemFree"])
    for folder in group_folders("memory", cgroups=cgroups, mount=mount):
        limit = _number(folder, "memory.max", "memory.limit_in_bytes")
        if limit is None or limit >= total:  # cgroup-v1 writes a huge number where there is no limit
            continue
        used = _number(folder, "memory.current", "memory.usage_in_bytes") or 0
        total, available = limit, min(available, max(0, limit - used + _reclaimable(folder)))
    return Memory(total=total, available=available)


def _meminfo(path: Path) -> dict[str, int]:
    """The entries of `/proc/meminfo` in kilobytes; empty on a system without it."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {name: int(value.split()[0]) for name, value in pairs if value.split()}


def _number(folder: Path, *names: str) -> int | None:
    """The number in the first of the files that is there; None where there is none, or no limit in it."""
    for name in names:
        content = words(folder / name)
        if content:
            return int(content[0]) if content[0].isdigit() else None
    return None


def _reclaimable(folder: Path) -> int:
    """Bytes of files in the cache of a group, which the kernel gives up before it refuses memory."""
    stat = words(folder / "memory.stat")
    figures = dict(zip(stat[::2], stat[1::2], strict=False))
    return int(figures.get("inactive_file", 0))


def _memory_elsewhere() -> Memory:
    try:
        import psutil
    except ImportError:
        names = getattr(os, "sysconf_names", {})
        if "SC_PHYS_PAGES" not in names:
            return Memory(total=None, available=None)
        return Memory(total=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), available=None)
    figures = psutil.virtual_memory()
    return Memory(total=figures.total, available=figures.available)
