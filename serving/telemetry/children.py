"""The memory of the processes that this one started: the engine is a process of its own."""

import os
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

PROC = Path("/proc")


class ChildrenCollector(Collector):
    """Looks when it is asked; shows nothing where there is no `/proc`."""

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield the resident memory of all children together."""
        resident = resident_of_children(os.getpid())
        if resident is not None:
            yield GaugeMetricFamily(
                "hybrid_children_resident_memory_bytes", "Of the engine and other children.", value=resident
            )


def resident_of_children(pid: int, proc: Path = PROC) -> int | None:
    """Return the bytes of memory that the children of a process hold; None where the system does not say."""
    try:
        threads = list((proc / str(pid) / "task").iterdir())
        children = [child for thread in threads for child in (thread / "children").read_text().split()]
        pages = [int((proc / child / "statm").read_text().split()[1]) for child in children]
    except (OSError, IndexError):  # a child that ended in between: the next look is right
        return None
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")
