"""A reply leaves in one piece, and nothing written is lost when the connection closes."""

import asyncio
from typing import Any, cast

import pytest

from serving.http.connection import CoalescingTransport


class Sent:
    """Remembers what a transport was told."""

    def __init__(self) -> None:
        self.told: list[bytes | str] = []

    def write(self, data: bytes) -> None:
        self.told.append(data)

    def close(self) -> None:
        self.told.append("closed")

    def is_closing(self) -> bool:
        return "closed" in self.told


@pytest.mark.parametrize("closes", [False, True])
def test_what_is_written_in_one_turn_is_sent_at_once_and_before_the_end(closes: bool) -> None:
    sent = Sent()

    async def scenario() -> None:
        transport = CoalescingTransport(cast(Any, sent), asyncio.get_running_loop())
        transport.write(b"head ")
        transport.write(b"body")
        assert sent.told == []
        if closes:
            transport.close()
            transport.write(b"too late")
        await asyncio.sleep(0)
        if not closes:
            transport.write(b"next")
        await asyncio.sleep(0)

    asyncio.run(scenario())
    assert sent.told == ([b"head body", "closed"] if closes else [b"head body", b"next"])
