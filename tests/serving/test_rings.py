"""Requests leave no rings of objects behind: under load the sweeps that free them would stop the event loop."""

import asyncio
import gc
from collections.abc import Callable, Coroutine, Iterator

import pytest
from starlette.requests import Request

from hybrid.runtime.text_encoder import Encoded
from serving.http import endpoint
from serving.http.endpoint import cancel_on_disconnect
from serving.scheduler.queue import Job
from serving.types import Timings

pytestmark = pytest.mark.alone  # a thread that another test left behind makes objects of its own
REQUESTS = 50


@pytest.fixture(autouse=True)
def no_sweeps() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def unreachable_after(work: Callable[[], Coroutine[None, None, None]]) -> int:
    """Return how many objects a sweep finds after some requests."""

    async def several() -> int:
        await work()
        gc.collect()
        for _ in range(REQUESTS):
            await work()
        return gc.collect()

    return asyncio.run(several())


async def watched() -> None:
    never = asyncio.Event()

    async def receive() -> dict[str, str]:
        await never.wait()
        return {"type": "http.disconnect"}

    with cancel_on_disconnect(Request({"type": "http"}, receive)):
        await asyncio.sleep(2 * endpoint.WATCH_AFTER_S)
    await asyncio.sleep(0)


async def queued() -> None:
    job = Job([Encoded(windows=([1, 2], [3]), truncated=False)], Timings())
    for row in job.rows:
        job.deliver(row, [0.0])
    await job.done
    job.release()


def test_a_client_that_was_watched_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "WATCH_AFTER_S", 0.001)
    assert unreachable_after(watched) < REQUESTS


def test_a_job_leaves_none_and_one_that_is_not_ended_does() -> None:
    async def not_ended() -> None:
        job = Job([Encoded(windows=([1, 2],), truncated=False)], Timings())
        job.deliver(job.rows[0], [0.0])
        await job.done

    assert unreachable_after(queued) < REQUESTS <= unreachable_after(not_ended)
