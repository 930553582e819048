"""An answer that drips in byte by byte ends in time."""

import time
from contextlib import suppress
from typing import Any

import pytest

from hybrid.config import LLMConfig
from hybrid.llm import FailureKind
from hybrid.llm.client.messages import Messages
from hybrid.llm.client.retry import Retry
from hybrid.llm.tasks.label import label_request
from tests.messages_server import Handler, MessagesServer, label

REQUEST = label_request("decide", "The soup.", ("bad", "good"), LLMConfig(max_tokens=60))
DRIPS, PAUSE_S = 40, 0.06


class Drip:
    """An answer of blanks, one at a time; `sent` counts those that were begun before the client hung up."""

    sent = 0

    def __call__(self, handler: Handler, body: dict[str, Any]) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(DRIPS))
        handler.end_headers()
        with suppress(OSError):
            for _ in range(DRIPS):
                self.sent += 1
                handler.wfile.write(b" ")
                time.sleep(PAUSE_S)


@pytest.mark.slow
@pytest.mark.parametrize(("timeout_s", "in_time"), [(0.4, True), (60.0, False)], ids=["bounded", "control"])
def test_a_body_that_drips_is_cut_off_at_the_timeout(timeout_s: float, in_time: bool) -> None:
    drip = Drip()
    with MessagesServer(label("bad"), drip) as server:
        model = Messages("judge", base_url=server.url, timeout_s=timeout_s, retry=Retry(tries=1))
        # After an answer, one that is not of the protocol fails its call alone.
        assert model.ask(REQUEST).status == "ok"
        reply = model.ask(REQUEST)
    assert reply.status == "failed"
    assert (reply.failure is FailureKind.TIMED_OUT) == in_time
    assert (drip.sent < DRIPS) == in_time
