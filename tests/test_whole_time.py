"""An answer that drips in byte by byte ends in time."""

import time
from typing import Any

import pytest

from hybrid.config import LLMConfig
from hybrid.llm import FailureKind
from hybrid.llm.client.messages import Messages
from hybrid.llm.client.retry import Retry
from hybrid.llm.tasks.label import label_request
from tests.messages_server import Handler, MessagesServer

REQUEST = label_request("decide", "The soup.", ("bad", "good"), LLMConfig(max_tokens=60))
DRIPS, PAUSE_S = 40, 0.06


def drip(handler: Handler, body: dict[str, Any]) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(DRIPS))
    handler.end_headers()
    for _ in range(DRIPS):
        handler.wfile.write(b" ")
        time.sleep(PAUSE_S)


@pytest.mark.slow
@pytest.mark.parametrize(("timeout_s", "in_time"), [(0.4, True), (60.0, False)], ids=["bounded", "control"])
def test_a_body_that_drips_is_cut_off_at_the_timeout(timeout_s: float, in_time: bool) -> None:
    with MessagesServer(drip) as server:
        model = Messages("judge", base_url=server.url, timeout_s=timeout_s, retry=Retry(tries=1))
        # As after an answer: what is not of the protocol then fails this call alone.
        model._speaks = True
        started = time.monotonic()
        reply = model.ask(REQUEST)
        took_s = time.monotonic() - started
    assert reply.status == "failed"
    assert (reply.failure is FailureKind.TIMED_OUT) == in_time
    assert (took_s < DRIPS * PAUSE_S / 2) == in_time
