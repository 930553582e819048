"""A decoder that is down is left alone, and asked again once it has had its rest."""

import asyncio
import time
from pathlib import Path

import pytest

from serving.decoder.breaker import Breaker
from tests.messages_server import Act, MessagesServer, label, status
from tests.serving.escalation_fixtures import Heard, after, escalated, opened


@pytest.mark.parametrize(
    ("act", "asked", "outcome"),
    [(status(500), 5, "refused_by_breaker"), (label("excellent"), 9, "undecided")],
    ids=["failing", "useless"],
)
def test_after_failures_in_a_row_the_decoder_is_not_asked_any_more(
    act: Act, asked: int, outcome: str, tmp_path: Path
) -> None:
    async def run(url: str) -> None:
        heard = Heard()
        to = opened(tmp_path, url, heard, retries=0, breaker_failures=5)
        for i in range(9):
            found = await escalated(to, f"Dish {i}.")
            assert found.label == "good"
        assert heard.outcomes[-1] == outcome
        assert heard.states == (["open"] if asked == 5 else [])
        await to.close()

    with MessagesServer(act) as server:
        asyncio.run(run(server.url))
        assert len(server.bodies) == asked


@pytest.mark.slow
def test_after_its_rest_one_call_tells_whether_the_decoder_is_back(tmp_path: Path) -> None:
    async def run(url: str) -> None:
        heard = Heard()
        to = opened(tmp_path, url, heard, retries=0, breaker_failures=2, breaker_rest_s=0.3)
        for i in range(3):
            await escalated(to, f"Dish {i}.")
        assert heard.states == ["open"]
        await asyncio.sleep(0.35)
        assert (await escalated(to, "Dish 3.")).escalation == "failed"
        assert heard.states == ["open", "half-open", "open"]
        await asyncio.sleep(0.35)
        assert (await escalated(to, "Dish 4.")).escalation == "answered"
        assert heard.states == ["open", "half-open", "open", "half-open", "closed"]
        assert (await escalated(to, "Dish 5.")).escalation == "answered"
        await to.close()

    with MessagesServer(status(500), status(500), status(503), label("bad")) as server:
        asyncio.run(run(server.url))
        assert len(server.bodies) == 5


@pytest.mark.slow
@pytest.mark.parametrize(("timeout_s", "states"), [(0.1, []), (2.5, ["open"])], ids=["hurried", "patient"])
def test_only_a_decoder_that_had_its_time_is_at_fault(timeout_s: float, states: list[str], tmp_path: Path) -> None:
    async def run(url: str) -> None:
        heard = Heard()
        to = opened(tmp_path, url, heard, retries=0, breaker_failures=2, timeout_ms=1300)
        found = await asyncio.gather(*(escalated(to, f"Dish {i}.", timeout_s=timeout_s) for i in range(4)))
        assert {one.escalation for one in found} == {"failed"}
        await to.close()
        assert heard.states == states

    with MessagesServer(after(3)) as server:
        asyncio.run(run(server.url))


def test_half_open_it_lets_one_call_through_and_no_second_beside_it() -> None:
    async def run() -> None:
        states: list[str] = []
        breaker = Breaker(failures=1, rest_s=0.05, changed=states.append)
        assert await breaker.admits()
        await breaker.ended(False)
        assert not await breaker.admits()
        time.sleep(0.06)
        assert [await breaker.admits() for _ in range(3)] == [True, False, False]
        await breaker.ended(None)
        assert await breaker.admits()
        await breaker.ended(True)
        assert [await breaker.admits() for _ in range(3)] == [True, True, True]
        assert states == ["open", "half-open", "closed"]

    asyncio.run(run())
