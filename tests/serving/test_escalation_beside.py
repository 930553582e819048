"""What is not escalated does not wait for the decoder, whatever state that is in."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import hybrid
from hybrid.runtime import Classifier
from tests.messages_server import MessagesServer
from tests.serving.escalation_fixtures import escalated, once_released, opened

TEXTS, ESCALATIONS = 30, 16


class Local:
    """The encoder in a thread of its own, asked from the event loop as a service asks it."""

    def __init__(self, classifier: Classifier) -> None:
        self._classifier = classifier
        self.pool = ThreadPoolExecutor(1)

    async def answer(self) -> None:
        loop = asyncio.get_running_loop()
        for i in range(TEXTS):
            await loop.run_in_executor(self.pool, self._classifier.classify, [f"The soup was cold, table {i}."])


@pytest.mark.slow
def test_local_answers_are_done_while_every_escalation_still_waits_for_a_silent_decoder(
    bundle_dir: Path, tmp_path: Path
) -> None:
    released = threading.Event()

    async def run(url: str) -> None:
        local = Local(hybrid.load(bundle_dir, threads=1))
        handler = opened(tmp_path, url, retries=0, deadline_ms=60_000, workers=8)
        escalations = [
            asyncio.ensure_future(escalated(handler, f"Dish {i}.", timeout_s=60)) for i in range(ESCALATIONS)
        ]
        await asyncio.sleep(0)
        await local.answer()
        assert not any(escalation.done() for escalation in escalations)
        released.set()
        assert {answer.escalation for answer in await asyncio.gather(*escalations)} == {"answered"}
        await handler.close()

    with MessagesServer(once_released(released)) as server:
        asyncio.run(run(server.url))
        assert len(server.bodies) == ESCALATIONS


@pytest.mark.slow
def test_a_decoder_asked_in_the_encoders_thread_would_be_in_the_way(bundle_dir: Path) -> None:
    async def run() -> None:
        local, released = Local(hybrid.load(bundle_dir, threads=1)), threading.Event()
        asyncio.get_running_loop().run_in_executor(local.pool, released.wait)
        answering = asyncio.ensure_future(local.answer())
        done, _ = await asyncio.wait([answering], timeout=0.3)
        assert not done
        released.set()
        await answering

    asyncio.run(run())
