"""A limit on the whole of an answer's body: a client's own timeout starts anew with each byte that comes."""

import time
from collections.abc import Callable, Iterator
from typing import Any


def within_timeout() -> Callable[[Any], None]:
    """Return a hook for the responses of an httpx2 client: a body must be in within the request's read timeout."""
    import httpx2

    class Bounded(httpx2.SyncByteStream):
        """A stream that ends in a timeout where it goes on for too long."""

        def __init__(self, stream: Any, timeout_s: float) -> None:
            self._stream = stream
            self._until = time.monotonic() + timeout_s

        def __iter__(self) -> Iterator[bytes]:
            for chunk in self._stream:
                if time.monotonic() > self._until:
                    raise httpx2.ReadTimeout("the answer did not end in time")
                yield chunk

        def close(self) -> None:
            self._stream.close()

    def hook(response: Any) -> None:
        timeout_s = response.request.extensions.get("timeout", {}).get("read")
        if timeout_s is not None:
            response.stream = Bounded(response.stream, timeout_s)

    return hook
