"""Workers that are actors of a Ray cluster (https://docs.ray.io): on any of its machines, as many as it has processors for."""

import os
import socket
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import msgspec

from hybrid.cluster.engine import MOST_DEATHS, Item, Result, Work, too_many_deaths
from hybrid.errors import ConfigError, CrashError, HybridError

ADDRESS = "RAY_ADDRESS"
"""The variable that names a cluster, for Ray's own commands too."""
AUTO = "auto"
"""The address of a cluster that runs on this machine."""
CONNECT_S = 5.0
MOST_FAILED_STARTS = 8
"""Workers that may die in a row before one starts."""


class _Started(msgspec.Struct, frozen=True):
    """The reply of a worker that is ready."""


class Worker:
    """What runs in an actor."""

    def __init__(self) -> None:
        self._call: Callable[[Any], Any] | None = None

    def start(self, work: Work[Any, Any], threads: int) -> _Started:
        """Make ready.

        Raises:
            HybridError: this machine lacks something; the message names the machine.
        """
        try:
            self._call = work.start(threads)
        except HybridError as error:
            raise ConfigError(f"node {_node_name()}: {error}") from error
        return _Started()

    def do(self, item: Any) -> Any:
        """Do one item."""
        assert self._call is not None, "start comes first"
        return self._call(item)


class _Task(msgspec.Struct, frozen=True):
    """A call of a worker that has not ended."""

    actor: Any
    items: tuple[Any, ...] = ()
    """The item; none where the worker starts."""


class RayEngine:
    """The actors of one cluster.

    Ray prints what its machines report, such as the death of one, to standard output.
    """

    def __init__(self, *, address: str, workers: int | None, threads: int, say: Callable[[str], None]) -> None:
        """Connect to a cluster.

        Args:
            address: host and port of its head; empty for what `RAY_ADDRESS` names, or for a cluster on this machine.
            workers: how many; None for as many as the cluster has processors for.
            threads: the processors of each worker.
            say: is told of workers that die.

        Raises:
            ConfigError: Ray is not installed; the cluster does not answer, has another version of Python or Ray, or no
                machine with so many processors.
        """
        self._ray = _ray()
        self._threads = threads
        self._say = say
        try:
            _connect(self._ray, address or os.environ.get(ADDRESS, AUTO))
            self._n_workers = workers or self._room()
        except BaseException:
            self.close()
            raise

    def map(self, work: Work[Item, Result], items: Iterable[Item]) -> Iterator[Result]:
        """Do each item; see `Engine.map`."""
        waiting = deque(items)
        deaths: Counter[Item] = Counter()
        running: dict[Any, _Task] = {}
        actor_type = self._ray.remote(num_cpus=self._threads, scheduling_strategy="SPREAD")(Worker)
        n_failed_starts = 0
        try:
            while waiting or any(task.items for task in running.values()):  # and not for workers that find no room
                while len(running) < self._n_workers and _n_starting(running) < len(waiting):
                    actor = actor_type.remote()
                    running[actor.start.remote(work, self._threads)] = _Task(actor)
                for ref in self._ray.wait(list(running))[0]:
                    task = running.pop(ref)
                    try:
                        value = self._ray.get(ref)
                    except self._deadly as error:
                        with suppress(self._ray.exceptions.RayError, ValueError):
                            self._ray.kill(task.actor)  # it may only be out of reach, and would hold its processors
                        n_failed_starts += not task.items
                        if n_failed_starts >= MOST_FAILED_STARTS or "No module named" in str(error):
                            raise _cannot_start(error) from error
                        self._hand_out_again(task, waiting, deaths)
                        continue
                    except self._ray.exceptions.RayTaskError as error:
                        raise _cause(error) from error
                    if not isinstance(value, _Started):
                        yield value
                    else:
                        n_failed_starts = 0
                    if waiting:
                        item = waiting.popleft()
                        running[task.actor.do.remote(item)] = _Task(task.actor, (item,))
                    else:
                        self._ray.kill(task.actor)
        finally:
            for task in running.values():
                self._ray.kill(task.actor)

    def close(self) -> None:
        """Leave the cluster, which ends all actors."""
        self._ray.shutdown()

    @property
    def _deadly(self) -> tuple[type[Exception], ...]:
        """The errors that say that a worker or its machine is gone."""
        errors = self._ray.exceptions
        return (
            errors.RayActorError,
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.ObjectLostError,
            errors.OutOfMemoryError,
        )

    def _room(self) -> int:
        """Count the workers that the cluster has processors for."""
        cpus = sorted(int(node["Resources"].get("CPU", 0)) for node in self._ray.nodes() if node["Alive"])
        room = sum(count // self._threads for count in cpus)
        if not room:
            raise ConfigError(
                f"Ray: no machine of the cluster has {self._threads} processors (they have {', '.join(map(str, cpus))}); take "
                "fewer with --worker-threads"
            )
        return room

    def _hand_out_again(self, task: _Task, waiting: deque[Item], deaths: "Counter[Item]") -> None:
        for item in task.items:
            deaths[item] += 1
            if deaths[item] >= MOST_DEATHS:
                raise too_many_deaths(item)
            waiting.appendleft(item)
        self._say("a worker or its machine is gone; its part is handed out again")


def _n_starting(running: dict[Any, _Task]) -> int:
    return sum(not task.items for task in running.values())


def _ray() -> Any:
    """Import Ray.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigError("--engine ray: Ray is not installed; run `pip install 'hybrid-cascade[ray]'`") from error
    return ray


def _connect(ray: Any, address: str) -> None:
    """Connect to a cluster.

    Raises:
        ConfigError: it does not answer, or has other versions.
    """
    advice = "start one with `ray start --head`, or name another with --ray-address or RAY_ADDRESS"
    if address.startswith("ray://"):
        raise ConfigError(
            f"Ray at {address}: an address of Ray's client; run this on a machine of the cluster (`ray job submit` does), "
            "and name host and port of its head"
        )
    if address != AUTO:
        _check_answers(address, advice)
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=True)
    except (ConnectionError, SystemExit) as error:
        reason = str(error).splitlines()[0] if isinstance(error, ConnectionError) else "it is no cluster of Ray"
        raise ConfigError(f"Ray at {address}: does not answer ({reason.rstrip('.')}); {advice}") from error
    except RuntimeError as error:
        words = " ".join(str(error).split())
        if "ersion mismatch" not in words:
            raise
        raise ConfigError(f"Ray at {address}: other versions there than here ({words}); install the same") from error


def _check_answers(address: str, advice: str) -> None:
    """Knock at the door: Ray itself tries for two minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"Ray at {address}: expected host and port, such as 10.0.0.1:6379; {advice}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_S).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"Ray at {address}: does not answer ({reason}); {advice}") from error


def _cannot_start(error: Exception) -> ConfigError:
    words = [line.strip() for line in str(error).splitlines() if "No module named" in line]
    reason = words[-1] if words else next(iter(str(error).splitlines()), type(error).__name__)
    return ConfigError(
        f"Ray: no worker starts ({reason}); install hybrid-cascade[ray] with the same versions on every machine of the cluster"
    )


def _cause(error: Any) -> Exception:
    """Return what a worker raised, as an error of this process."""
    cause = error.cause
    if isinstance(cause, HybridError):
        return cause
    return CrashError(f"a worker failed: {type(cause).__name__}: {cause}")


def _node_name() -> str:
    return str(_ray().util.get_node_ip_address())
