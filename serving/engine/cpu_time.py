"""What the kernel says of a process: whether it works, and how long it has had a processor."""

import time
from pathlib import Path

PROC = Path("/proc")
WORKING = frozenset("RD")
"""Runs or waits for a processor, or for the disk: another state is that of who waits for something to happen (proc(5))."""
CPUCLOCK_SCHED = 2
"""The clock of a process's processor time, as Linux numbers it by process (clock_getcpuclockid(3))."""


def works(pid: int) -> bool:
    """Return whether a thread of the process runs, or would if there were a processor for it."""
    try:
        return any(_fields(task / "stat")[0] in WORKING for task in (PROC / str(pid) / "task").iterdir())
    except (OSError, IndexError):
        return False


def used_s(pid: int) -> float:
    """Return the seconds of processor time that the process has had; 0 where the kernel does not say."""
    try:
        return time.clock_gettime((~pid << 3) | CPUCLOCK_SCHED)  # one call of the kernel: it is asked at every batch
    except OSError:
        return 0.0


def _fields(path: Path) -> list[str]:
    """Return what stands after the name, which may hold anything: the state is the first."""
    return path.read_text().rpartition(")")[2].split()
