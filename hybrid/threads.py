"""How many threads to compute with: the processors that this process may use, and no more than its quota pays for."""

import os
from pathlib import Path

CGROUPS = Path("/proc/self/cgroup")
MOUNT = Path("/sys/fs/cgroup")


def usable_threads(*, processors: int | None = None, cgroups: Path | None = None, mount: Path | None = None) -> int:
    """The processors of the affinity mask, or the CPU quota of the container where that is less.

    `processors` stands for the affinity mask where it is given. A quota of 2.5 processors gives 2 threads: a third
    would have all three stopped for a part of every period. Formats: the kernel's cgroup-v2 (`cpu.max`) and
    cgroup-v1 (`cpu.cfs_quota_us`) pages; a quota above the own group counts too.
    """
    allowed = processors or _affinity()
    folders = _folders(cgroups or CGROUPS, mount or MOUNT)
    quotas = [quota for folder in folders if (quota := _quota(folder)) is not None]
    return max(1, min([allowed, *map(int, quotas)]))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _folders(cgroups: Path, mount: Path) -> list[Path]:
    """The folders of the CPU controller, from the own group up to the mount.

    In a container the group is often named as the host sees it while only the mount's root is there, so a folder
    need not exist.
    """
    try:
        lines = cgroups.read_text().splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        for top in (mount, mount / "unified") if not controllers else (mount / "cpu", mount / controllers):
            own = top / group.strip("/")
            folders += [folder for folder in (own, *own.parents) if folder.is_relative_to(top)]
    return folders


def _quota(folder: Path) -> float | None:
    """The number of processors that a group may keep busy; None where it has no limit."""
    quota, period = (
        _words(folder / "cpu.max")
        or (_words(folder / "cpu.cfs_quota_us") + _words(folder / "cpu.cfs_period_us"))
        or ("max", "1")
    )
    if quota in ("max", "-1"):
        return None
    return int(quota) / int(period)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
