"""What a process and all that it started use, from /proc (Linux): processor time, memory, descriptors, threads."""

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """Return the process and its descendants that live."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def cpu_s(pid: int) -> float:
    """Return the seconds of user and system time of the tree, those of ended children included."""
    return sum(_cpu_ticks(one) for one in tree(pid)) / TICKS


def _cpu_ticks(pid: int) -> int:
    try:
        # The name, in brackets, may hold spaces: count from behind it.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15]))


def memory_mb(pid: int) -> float:
    """Return the proportional set size of the tree: a page that processes share counts once."""
    return sum(_kilobytes(one, "smaps_rollup", "Pss:") for one in tree(pid)) / 1024


def _kilobytes(pid: int, file: str, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(name))


def descriptors(pid: int) -> int:
    """Return the open file descriptors of the tree that are no connections: those come and go with the callers."""
    return sum(1 for one in tree(pid) for path in _listed(one, "fd") if not _is_socket(path))


def sockets(pid: int) -> int:
    """Return the open sockets of the tree."""
    return sum(1 for one in tree(pid) for path in _listed(one, "fd") if _is_socket(path))


def threads(pid: int) -> int:
    """Return the threads of the tree."""
    return sum(len(_listed(one, "task")) for one in tree(pid))


def _listed(pid: int, folder: str) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/{folder}").iterdir())
    except OSError:
        return []


def _is_socket(path: Path) -> bool:
    try:
        return str(path.readlink()).startswith("socket:")
    except OSError:
        return False
