"""Concurrency that adapts to the provider."""

import time
from collections.abc import Callable
from threading import Barrier, Lock
from typing import Any

import pytest

from hybrid.config import LLMConfig
from hybrid.llm import Request, ask_all
from hybrid.llm.client.limiter import Limiter
from hybrid.llm.client.messages import Messages
from hybrid.llm.client.retry import Retry
from hybrid.llm.tasks.label import label_request
from tests.messages_server import MessagesServer, label, status

LABELS = ("negative", "positive")


def questions(n: int) -> list[Request]:
    return [label_request("verify", f"text {i}", LABELS, LLMConfig()) for i in range(n)]


def test_the_slots_halve_once_a_round_trip_however_many_calls_are_refused() -> None:
    limiter = Limiter(16)
    sent = [time.monotonic() for _ in range(16)]
    for sent_at in sent:
        limiter.overloaded(sent_at)
    assert limiter.slots == 8
    limiter.overloaded(time.monotonic())
    assert limiter.slots == 4


def test_the_slots_grow_back_by_one_a_round_trip_and_never_past_the_most() -> None:
    limiter = Limiter(8)
    limiter.overloaded(time.monotonic())
    assert limiter.slots == 4
    for _ in range(5):
        limiter.served()
    assert limiter.slots == 5
    for _ in range(100):
        limiter.served()
    assert limiter.slots == 8


def test_one_slot_always_remains() -> None:
    limiter = Limiter(2)
    for _ in range(5):
        limiter.overloaded(time.monotonic())
    assert limiter.slots == 1
    with limiter.slot():
        pass


def test_nothing_is_sent_while_the_server_asks_to_be_left_alone() -> None:
    limiter = Limiter(4)
    refused_at = time.monotonic()
    limiter.overloaded(refused_at, pause_s=0.1)
    with limiter.slot() as sent_at:
        assert sent_at >= refused_at + 0.1


def crowded(most: int, code: int) -> tuple[Callable[..., None], list[int]]:
    """Return an act that refuses whatever comes while `most` calls are being answered, and how many it saw at once."""
    lock, now, seen = Lock(), 0, []

    def act(handler: Any, body: dict[str, Any]) -> None:
        nonlocal now
        with lock:
            now += 1
            seen.append(now)
            busy = now > most
        time.sleep(0.05)
        (status(code) if busy else label("positive"))(handler, body)
        with lock:
            now -= 1

    return act, seen


@pytest.mark.slow
@pytest.mark.parametrize("code", [429, 529])
def test_a_server_that_can_take_few_calls_is_found_out_and_every_row_is_answered(code: int) -> None:
    act, seen = crowded(4, code)
    with MessagesServer(act) as server:
        llm = Messages("m", base_url=server.url, workers=32, retry=Retry(tries=12, first_wait_s=0.02))
        replies = ask_all(questions(120), llm, 32)
    assert [reply.status for reply in replies] == ["ok"] * 120
    assert max(seen[:60]) > 8
    assert max(seen[-60:]) <= 8
    assert len(seen) - 120 < 100, "more refusals than a client needs that learns from them"


@pytest.mark.slow
def test_fifty_slots_are_fifty_calls_at_once() -> None:
    all_at_once = Barrier(50, timeout=120)

    def together(handler: Any, body: dict[str, Any]) -> None:
        all_at_once.wait()
        label("positive")(handler, body)

    with MessagesServer(together) as server:
        llm = Messages("m", base_url=server.url, workers=50)
        replies = ask_all(questions(200), llm, 50)
    assert {reply.status for reply in replies} == {"ok"}
