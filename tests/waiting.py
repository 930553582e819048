"""Waiting for what other threads and processes do: a wait fails only where something hangs, on however slow a machine."""

import asyncio
import time
from collections.abc import Callable

HANG_S = 120.0
"""Nothing that a test waits for takes nearly as long."""


def wait_until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds."""
    gives_up_at = time.monotonic() + HANG_S
    while not condition():
        assert time.monotonic() < gives_up_at, "it never came"
        time.sleep(0.01)


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds, on the event loop."""
    async with asyncio.timeout(HANG_S):
        while not condition():
            await asyncio.sleep(0.01)
