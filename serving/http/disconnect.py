"""Whether the client is still there: what is done for one that left is not done to its end."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import ClientDisconnect, Request

NOTICED_AFTER_S = 0.05
"""Most requests are answered sooner than that, and nobody has to be set to watch their clients."""


@contextmanager
def cancel_on_disconnect(request: Request) -> Iterator[None]:
    """Cancel what the task does in the block once the client has closed its connection.

    Raises:
        ClientDisconnect: the client left.
    """
    watch = _Watch(request)
    try:
        yield
    except asyncio.CancelledError as error:
        if watch.saw_it_leave():
            raise ClientDisconnect from error
        raise
    finally:
        watch.end()


class _Watch:
    """Watches the client of a request for the task that answers it."""

    def __init__(self, request: Request) -> None:
        task = asyncio.current_task()
        assert task
        self._task = task
        self._request = request
        self._gone = False
        self._watching: asyncio.Task[None] | None = None
        self._begins: asyncio.TimerHandle | None = asyncio.get_running_loop().call_later(NOTICED_AFTER_S, self._begin)

    def saw_it_leave(self) -> bool:
        """Return whether the task was cancelled for that, and for nothing else."""
        return self._gone and self._task.uncancel() == 0

    def end(self) -> None:
        """Watch no longer."""
        for pending in (self._begins, self._watching):
            if pending:
                pending.cancel()
        # Both point back here: rings of garbage would wait for a sweep, and under load a sweep of them stops the loop.
        self._begins = self._watching = None

    def _begin(self) -> None:
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self._gone = True
        self._task.cancel()
