"""What a process and all that it started use, from /proc (Linux): processor time, memory, descriptors, threads."""

import os
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """Return the process and its descendants that live."""
    pids = [pid]
    for parent in pids:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                pids += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return pids


def cpu_s(pid: int) -> float:
    """Return the seconds of user and system time of the tree, those of ended children included."""
    return sum(_cpu_ticks(member) for member in tree(pid)) / TICKS


def _cpu_ticks(pid: int) -> int:
    try:
        # The name, in brackets, may hold spaces: count from behind it.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return sum(map(int, fields[11:15]))


def memory_mb(pid: int) -> float:
    """Return the proportional set size of the tree: a page that processes share counts once."""
    return sum(_kilobytes(member, "smaps_rollup", "Pss:") for member in tree(pid)) / 1024


def _kilobytes(pid: int, file: str, name: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(name))


def descriptors(pid: int) -> int:
    """Return the open file descriptors of the tree that are no connections: those come and go with the callers."""
    return sum(1 for member in tree(pid) for path in _listed(member, "fd") if not _is_socket(path))


def sockets(pid: int) -> int:
    """Return the open sockets of the tree."""
    return sum(1 for member in tree(pid) for path in _listed(member, "fd") if _is_socket(path))


def threads(pid: int) -> int:
    """Return the threads of the tree."""
    return sum(len(_listed(member, "task")) for member in tree(pid))


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
