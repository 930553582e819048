"""Limits on whole HTTP calls of blocking clients: on the time of connecting, sending, head and body together, and on bytes.

The timeouts of httpx (and of httpx2, which the `anthropic` package calls) count anew with each byte that arrives: a server
that sends a byte, or a `103 Early Hints`, now and then holds its caller for ever. Below, each operation on the network gets
what is left of its call.
"""

import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.metadata import version
from typing import Any

from hybrid.errors import VersionError

WRITE_BYTES = 1 << 14
"""Sent at once: a client waits for each part anew."""


class CallLimits:
    """What the calls of a block may use up."""

    def __init__(self, until: float, max_bytes: int) -> None:
        """Set the end, in seconds of `time.monotonic`, and the most bytes that may be received, heads included."""
        self.until = until
        self.max_bytes = max_bytes
        self.n_bytes = 0


_limits: ContextVar[CallLimits | None] = ContextVar("limits", default=None)


@contextmanager
def call_limits(until: float, max_bytes: int) -> Iterator[None]:
    """Have the calls of this block end at `until` (seconds of `time.monotonic`) with the timeout error of their client.

    One that receives over `max_bytes` ends with a read error.
    """
    token = _limits.set(CallLimits(until, max_bytes))
    try:
        yield
    finally:
        _limits.reset(token)


def limit_whole_calls(client: Any) -> None:
    """Have a client, an `httpx.Client` or `httpx2.Client`, respect `call_limits`.

    Neither has a parameter for its network backend, so this sets it where their transports keep it. Both are pinned below
    their next breaking release (`tests/test_whole_call_pin.py`).

    Raises:
        VersionError: this release of the client keeps it elsewhere; its calls could last for ever.
    """
    package = type(client).__module__.partition(".")[0]
    try:
        for transport in (client._transport, *client._mounts.values()):
            if transport is not None:  # None stands for a host that the environment excepts from its proxy
                pool = transport._pool
                pool._network_backend = LimitedBackend(
                    pool._network_backend, sys.modules[type(pool).__module__.partition(".")[0]]
                )
    except AttributeError as error:
        raise VersionError(
            f"{package} {version(package)} cannot be kept to a time limit a call ({error}); install the release that "
            "constraints.txt names"
        ) from error


class LimitedBackend:
    """The network backend of `httpcore`, with what is left of the call as the timeout of each operation."""

    def __init__(self, inner: Any, core: Any) -> None:
        """Wrap a backend of the module `core`, whose errors are raised."""
        self._inner = inner
        self._core = core

    def connect_tcp(self, host: str, port: int, timeout: float | None = None, **options: Any) -> "LimitedStream":
        """Connect to the first address of the host that answers, in the time that is left for all of them."""
        left_s(timeout, self._core.ConnectTimeout)
        if _limits.get() is None:
            return LimitedStream(self._inner.connect_tcp(host, port, timeout, **options), self._core)
        addresses = _addresses(host, port, self._core.ConnectError)
        for address in addresses[:-1]:
            try:
                return self._connect(address, port, timeout, options)
            except (self._core.ConnectError, self._core.ConnectTimeout):
                continue
        return self._connect(addresses[-1], port, timeout, options)

    def connect_unix_socket(self, path: str, timeout: float | None = None, **options: Any) -> "LimitedStream":
        """Connect to a socket in the file system."""
        left = left_s(timeout, self._core.ConnectTimeout)
        return LimitedStream(self._inner.connect_unix_socket(path, left, **options), self._core)

    def sleep(self, seconds: float) -> None:
        """Wait before another try to connect."""
        self._inner.sleep(left_s(seconds, self._core.ConnectTimeout))

    def _connect(self, address: str, port: int, timeout: float | None, options: dict[str, Any]) -> "LimitedStream":
        left = left_s(timeout, self._core.ConnectTimeout)
        return LimitedStream(self._inner.connect_tcp(address, port, left, **options), self._core)


class LimitedStream:
    """A connection of `LimitedBackend`."""

    def __init__(self, inner: Any, core: Any) -> None:
        self._inner = inner
        self._core = core

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return the next bytes."""
        content: bytes = self._inner.read(max_bytes, left_s(timeout, self._core.ReadTimeout))
        if limits := _limits.get():
            limits.n_bytes += len(content)
            if limits.n_bytes > limits.max_bytes:
                raise self._core.ReadError(f"the answer has over {limits.max_bytes} bytes")
        return content

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of the bytes."""
        for start in range(0, len(buffer), WRITE_BYTES):
            self._inner.write(buffer[start : start + WRITE_BYTES], left_s(timeout, self._core.WriteTimeout))

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> "LimitedStream":
        """Encrypt the connection."""
        left = left_s(timeout, self._core.ConnectTimeout)
        return LimitedStream(self._inner.start_tls(ssl_context, server_hostname, left), self._core)

    def close(self) -> None:
        """Close the connection."""
        self._inner.close()

    def get_extra_info(self, info: str) -> Any:
        """Return what the connection knows of itself."""
        return self._inner.get_extra_info(info)


def left_s(timeout: float | None, error: type[Exception]) -> float | None:
    """The seconds that an operation may take: its own timeout or what is left of the call, if that is less.

    Raises:
        Exception: of the type `error`, if nothing is left.
    """
    limits = _limits.get()
    if limits is None:
        return timeout
    left = limits.until - time.monotonic()
    if left <= 0:
        raise error("the call did not end in its time")
    return left if timeout is None else min(timeout, left)


def _addresses(host: str, port: int, error: type[Exception]) -> list[str]:
    """The addresses of a host; its resolver has a time limit of its own."""
    try:
        return [str(place[0]) for *_, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except OSError as refused:
        raise error(str(refused)) from refused
