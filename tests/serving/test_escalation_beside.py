"""What is not escalated does not wait for the decoder, whatever state that is in."""

import asyncio
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import hybrid
from hybrid.runtime import Classifier
from tests.messages_server import MessagesServer
from tests.serving.escalation_fixtures import after, escalated, opened

ROUNDS, TEXTS, ESCALATIONS = 5, 30, 16
SILENT_S = 3.0


class Local:
    """The encoder in a thread of its own, asked from the event loop as a service asks it."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self.pool = ThreadPoolExecutor(1)

    async def typical_s(self) -> float:
        """Return how long an answer takes: the mean of some."""
        loop, took = asyncio.get_running_loop(), []
        for i in range(TEXTS):
            started = time.perf_counter()
            await loop.run_in_executor(self.pool, self._classifier.classify, [f"The soup was cold, table {i}."])
            took.append(time.perf_counter() - started)
        return statistics.mean(took)


async def beside(local: Local, trouble: Callable[[int], list["asyncio.Future[object]"]]) -> float:
    """Return the ratio of the medians over rounds, with trouble over without, in rounds that take turns."""
    quiet, troubled = [], []
    for number in range(ROUNDS):
        quiet.append(await local.typical_s())
        under_way = trouble(number)
        await asyncio.sleep(0.1)
        troubled.append(await local.typical_s())
        await asyncio.wait(under_way)
    return statistics.median(troubled) / statistics.median(quiet)


@pytest.mark.slow
def test_local_answers_take_as_long_beside_a_silent_decoder_as_without(bundle_dir: Path, tmp_path: Path) -> None:
    async def run(url: str) -> tuple[float, float]:
        local = Local(hybrid.load(bundle_dir, threads=1))
        to = opened(tmp_path, url, retries=0, deadline_ms=600, breaker_failures=10_000, workers=8)

        def ours(number: int) -> list["asyncio.Future[object]"]:
            return [asyncio.ensure_future(escalated(to, f"Dish {number} {i}.")) for i in range(ESCALATIONS)]

        def in_the_way(number: int) -> list["asyncio.Future[object]"]:
            # What a service must not do: wait for the decoder where the encoder works.
            loop = asyncio.get_running_loop()
            return [loop.run_in_executor(local.pool, time.sleep, 0.05) for _ in range(ESCALATIONS)]

        await local.typical_s()
        ratios = await beside(local, ours), await beside(local, in_the_way)
        await to.close()
        return ratios

    with MessagesServer(after(SILENT_S)) as server:
        ours, control = asyncio.run(run(server.url))
        assert len(server.bodies) >= ROUNDS
    assert ours < 1.5, (ours, control)
    assert control > 3, (ours, control)
