"""The seam between work and where it runs, and the table of the places."""

from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from hybrid.errors import ConfigError

Item = TypeVar("Item", contravariant=True)
Result = TypeVar("Result", covariant=True)
MOST_DEATHS = 5
"""Workers that may die over one item before the work is given up: an item that needs too much memory kills every one."""
LOCAL = "local"
RAY = "ray"
ENGINES = (LOCAL, RAY)
"""The names of the engines."""


class Work(Protocol[Item, Result]):
    """What is to be done. It is pickled, so it names files and does not hold them."""

    def start(self, threads: int) -> Callable[[Item], Result]:
        """Make ready in a worker that may use as many threads; return what does one item.

        An item may be done twice, after a worker died.

        Raises:
            HybridError: the worker lacks something.
        """


class Engine(Protocol):
    """Workers, on one machine or many."""

    def map(self, work: Work[Item, Result], items: Iterable[Item]) -> Iterator[Result]:
        """Do each item, and yield the results in any order; items of a worker that dies are handed out again.

        Raises:
            HybridError: an item, or the start of a worker, raised it.
            CrashError: the same for any other error.
        """

    def close(self) -> None:
        """End the workers."""


def too_many_deaths(item: object) -> ConfigError:
    """Return the error for an item over which workers die."""
    return ConfigError(
        f"item {item}: {MOST_DEATHS} workers died over it, one after the other; give them more memory, or take fewer "
        "workers with --workers"
    )
