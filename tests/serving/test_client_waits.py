"""The client where the service is busy, slow, broken or foreign: bounded retries inside the deadline."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest

from hybrid.client import (
    Answer,
    AsyncClient,
    Client,
    ClientError,
    DeadlineError,
    Failed,
    OverloadedError,
    ServerError,
    UnavailableError,
    UnreachableError,
)
from hybrid.client.exchange import ClientConfig, Send, Wait, exchange
from hybrid.client.replies import Received
from hybrid.retry_after import retry_after_s

ANSWER = {
    "label": "a",
    "labels": ["a"],
    "probs": {"a": 1.0},
    "confidence": 1.0,
    "encoder_label": "a",
    "encoder_confidence": 1.0,
    "threshold": 0.5,
    "status": "accepted",
    "source": "encoder",
    "escalation": "none",
    "rationale": "",
    "reason": "",
    "truncated": False,
    "tokens": 3,
    "bundle_id": "0123456789ab",
    "a_field_of_a_newer_service": 1,
}
GOOD = (200, {}, {"answers": [ANSWER], "failed": [], "bundle_id": "0123456789ab"})
BUSY = (429, {"Retry-After": "1"}, {"error": {"kind": "overloaded", "message": "too much to do"}})
AWAY = (503, {}, {"error": {"kind": "engine_down", "message": "the engine starts again"}})
Script = list[Any]


class Door:
    """A real HTTP server that answers as its script says, the last line again and again."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[dict[str, Any]] = []
        door = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = msgspec.json.decode(self.rfile.read(int(self.headers["content-length"])))
                door.asked.append(body)
                step = door.script[min(len(door.asked), len(door.script)) - 1]
                if callable(step):
                    step(self)
                    return
                status, headers, reply = step
                content = reply if isinstance(reply, bytes) else msgspec.json.encode(reply)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *words: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def door() -> Iterator[Callable[[Script], Door]]:
    opened: list[Door] = []

    def open_door(script: Script) -> Door:
        opened.append(Door(script))
        return opened[-1]

    yield open_door
    for item in opened:
        item.server.shutdown()
        item.server.server_close()


def ask(kind: str, door: Door, texts: list[str] | None = None, **settings: Any) -> list[Answer | Failed]:
    config = ClientConfig(**{"timeout_s": 20.0} | settings)
    if kind == "sync":
        with Client(door.url, config=config) as client:
            return client.classify(texts or ["soup"])

    async def asked() -> list[Answer | Failed]:
        async with AsyncClient(door.url, config=config) as client:
            return await client.classify(texts or ["soup"])

    return asyncio.run(asked())


BOTH = pytest.mark.parametrize("kind", ["sync", "async"])


@BOTH
@pytest.mark.slow
def test_who_is_refused_comes_again_when_the_service_says_and_tells_the_time_left(
    door: Callable[[Script], Door], kind: str
) -> None:
    busy = door([BUSY, GOOD])
    assert isinstance(ask(kind, busy)[0], Answer)
    first, second = busy.asked
    assert second["timeout_ms"] <= first["timeout_ms"] - 1000  # it waited that long at least


def steps_of(*replies: tuple[int, dict[str, str], Any]) -> list[Send | Wait]:
    """What a call does that gets these replies, with a clock that stands still but for its waits."""
    now = 0.0
    call = exchange(["soup"], {}, ClientConfig(timeout_s=20.0), clock=lambda: now)
    steps, coming = [next(call)], iter(replies)
    with suppress(StopIteration):
        while True:
            if isinstance(steps[-1], Wait):
                now += steps[-1].seconds
                steps.append(call.send(None))
            else:
                status, headers, reply = next(coming)
                steps.append(call.send(Received(status, msgspec.json.encode(reply), headers.get("Retry-After", ""))))
    return steps


def test_a_call_waits_as_long_as_the_service_says_and_else_a_moment() -> None:
    first, wait, second = steps_of(BUSY, GOOD)
    assert isinstance(first, Send)
    assert isinstance(wait, Wait)
    assert isinstance(second, Send)
    assert 1.0 <= wait.seconds <= 1.1
    assert (first.timeout_s, second.timeout_s) == (20.0, 20.0 - wait.seconds)
    _, moment, _ = steps_of(AWAY, GOOD)
    assert isinstance(moment, Wait)
    assert 0 < moment.seconds < 0.2


@BOTH
def test_a_wait_that_the_deadline_does_not_allow_is_not_waited(door: Callable[[Script], Door], kind: str) -> None:
    busy = door([(429, {"Retry-After": "60"}, BUSY[2]), GOOD])
    with pytest.raises(OverloadedError, match="too much to do") as refused:
        ask(kind, busy)
    assert (refused.value.retry_after_s, refused.value.status, len(busy.asked)) == (60.0, 429, 1)


@BOTH
@pytest.mark.parametrize("retries", [0, 2])
def test_retries_are_counted(door: Callable[[Script], Door], kind: str, retries: int) -> None:
    away = door([AWAY])
    with pytest.raises(UnavailableError):
        ask(kind, away, retries=retries)
    assert len(away.asked) == retries + 1


@BOTH
@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 500, 504])
def test_what_cannot_pass_is_asked_once(door: Callable[[Script], Door], kind: str, status: int) -> None:
    refuses = door([(status, {}, {"error": {"kind": "k", "message": "no"}}), GOOD])
    with pytest.raises(ClientError) as refused:
        ask(kind, refuses)
    assert (refused.value.status, refused.value.kind, len(refuses.asked)) == (status, "k", 1)


@BOTH
@pytest.mark.slow
def test_the_deadline_ends_a_reply_that_never_comes_and_one_that_never_ends(
    door: Callable[[Script], Door], kind: str
) -> None:
    left = threading.Event()

    def silent(handler: BaseHTTPRequestHandler) -> None:
        left.wait()

    def drips(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        with suppress(OSError):
            while not left.wait(0.05):
                handler.wfile.write(b" ")

    try:
        for step in (silent, drips):
            with pytest.raises(DeadlineError):
                ask(kind, door([step]), timeout_s=0.5)
    finally:
        left.set()


@BOTH
def test_a_connection_that_breaks_is_tried_again(door: Callable[[Script], Door], kind: str) -> None:
    def breaks(handler: BaseHTTPRequestHandler) -> None:
        handler.close_connection = True
        handler.connection.close()

    assert isinstance(ask(kind, door([breaks, GOOD]))[0], Answer)
    with pytest.raises(UnreachableError):
        ask(kind, door([breaks]))


@BOTH
@pytest.mark.parametrize(
    "reply", [b"<html>a proxy</html>", {"answers": [], "failed": []}, {"answers": [None], "failed": []}]
)
def test_a_reply_that_does_not_answer_every_text_is_no_answer(
    door: Callable[[Script], Door], kind: str, reply: object
) -> None:
    with pytest.raises(ServerError):
        ask(kind, door([(200, {}, reply)]))


@BOTH
def test_a_text_that_the_service_fails_on_leaves_the_others_their_answers(
    door: Callable[[Script], Door], kind: str
) -> None:
    detail = {"kind": "item_failed", "message": "poison", "item": 1}
    some = (200, {}, {"answers": [ANSWER, None], "failed": [detail], "bundle_id": "0"})
    none = (500, {}, {"error": {"kind": "item_failed", "message": "poison", "item": 0}})
    answers = ask(kind, door([some, none]), ["a", "b", "c"], max_items=2)
    assert [type(answer) for answer in answers] == [Answer, Failed, Failed]
    assert [item.item for item in answers if isinstance(item, Failed)] == [1, 2]


def test_a_wait_is_read_as_seconds_and_as_a_date() -> None:
    assert retry_after_s("2") == 2
    now = datetime(2026, 5, 1, 12, tzinfo=UTC)
    assert retry_after_s(format_datetime(now + timedelta(seconds=30), usegmt=True), now) == 30
    assert retry_after_s(format_datetime(now - timedelta(days=1), usegmt=True)) == 0
    assert [retry_after_s(odd) for odd in ("-1", "nan", "inf", "soon", "")] == [0, None, None, None, None]
