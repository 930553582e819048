"""A server that sends something now and then holds no call beyond its time, whichever part it drips."""

import asyncio
import math
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import httpx
import pytest

from hybrid.client import AsyncClient, Client, ClientConfig, DeadlineError, UnreachableError
from hybrid.errors import LLMError
from hybrid.llm.client.messages import Messages
from hybrid.llm.client.retry import Retry
from hybrid.llm.request import FailureKind, Reply
from hybrid.whole_call import call_limits, limit_whole_calls
from tests.test_llm import REQUEST

Talk = Callable[[socket.socket], None]
GIVE_UP_S = 30.0
"""A server that is not left drips until then: a call without a limit ends with a body that no test expects."""
TIMEOUT_S = 0.4


def _drip(part: bytes, wire: socket.socket) -> None:
    end = time.monotonic() + GIVE_UP_S
    while time.monotonic() < end:
        wire.sendall(part)
        time.sleep(0.02)


def early_hints(wire: socket.socket) -> None:
    """Send one interim reply after the other."""
    wire.recv(1 << 16)
    _drip(b"HTTP/1.1 103 Early Hints\r\n\r\n", wire)


def flood_of_interim_replies(wire: socket.socket) -> None:
    """Send interim replies as fast as they are read."""
    wire.recv(1 << 16)
    while True:
        wire.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000)


def headers(wire: socket.socket) -> None:
    """Send a head a letter at a time."""
    wire.recv(1 << 16)
    wire.sendall(b"HTTP/1.1 200 OK\r\nX-Soup: ")
    _drip(b"a", wire)


def body(wire: socket.socket) -> None:
    """Send a body a byte at a time."""
    wire.recv(1 << 16)
    wire.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000000\r\n\r\n")
    _drip(b" ", wire)


def chunks(wire: socket.socket) -> None:
    """Send empty-looking chunks."""
    wire.recv(1 << 16)
    wire.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n")
    _drip(b"1\r\n \r\n", wire)


def nothing(wire: socket.socket) -> None:
    """Accept, and keep silent."""
    wire.recv(1 << 16)
    wire.recv(1)


def unread(wire: socket.socket) -> None:
    """Read the request a byte at a time."""
    end = time.monotonic() + GIVE_UP_S
    while time.monotonic() < end and wire.recv(1):
        time.sleep(0.02)


DRIPS = [early_hints, flood_of_interim_replies, headers, body, chunks, nothing]


@contextmanager
def talking(talk: Talk) -> Iterator[str]:
    """Serve on a free port; gives the URL."""
    wires: list[socket.socket] = []

    def serve(wire: socket.socket) -> None:
        with suppress(OSError):  # the caller has left
            talk(wire)

    def accept() -> None:
        while True:
            try:
                wire, _ = listener.accept()
            except OSError:
                return
            wires.append(wire)
            threading.Thread(target=serve, args=(wire,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            for wire in wires:
                wire.close()


@pytest.mark.slow
@pytest.mark.parametrize("talk", DRIPS)
def test_a_decoder_that_drips_is_left_at_the_deadline(talk: Talk) -> None:
    with talking(talk) as url:
        llm = Messages("judge", base_url=url, timeout_s=GIVE_UP_S, retry=Retry(tries=3))
        reply = llm.ask(REQUEST, until=time.monotonic() + TIMEOUT_S)
        assert isinstance(reply, Reply)
        assert (reply.status, reply.failure) == ("failed", FailureKind.TIMED_OUT)


@pytest.mark.slow
@pytest.mark.parametrize("talk", [early_hints, headers])
def test_a_run_without_a_deadline_has_the_time_limit_of_its_recipe(talk: Talk) -> None:
    with talking(talk) as url:
        llm = Messages("judge", base_url=url, timeout_s=TIMEOUT_S, retry=Retry(tries=1))
        assert llm.ask(REQUEST, until=math.inf).failure == FailureKind.TIMED_OUT


@pytest.mark.slow
@pytest.mark.parametrize("talk", [*DRIPS, unread])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_service_that_drips_is_left_at_the_deadline(kind: str, talk: Talk) -> None:
    texts = ["soup " * 200_000] * (40 if talk is unread else 1)
    config = ClientConfig(timeout_s=TIMEOUT_S, retries=0)
    with talking(talk) as url, pytest.raises(DeadlineError):
        if kind == "sync":
            with Client(url, config=config) as client:
                client.classify(texts)
        else:
            asyncio.run(_ask(url, texts, config))


async def _ask(url: str, texts: list[str], config: ClientConfig) -> None:
    async with AsyncClient(url, config=config) as client:
        await client.classify(texts)


@pytest.mark.slow
def test_a_handshake_that_never_ends_is_left_at_the_deadline() -> None:
    with talking(nothing) as url, httpx.Client(timeout=GIVE_UP_S, verify=ssl.create_default_context()) as client:
        limit_whole_calls(client)
        with pytest.raises(httpx.TimeoutException), call_limits(time.monotonic() + TIMEOUT_S, 1 << 20):
            client.get(url.replace("http:", "https:"))


def endless(wire: socket.socket) -> None:
    wire.recv(1 << 16)
    wire.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    while True:
        wire.sendall(b" " * (1 << 16))


def test_an_answer_without_an_end_is_left_at_its_limit_of_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hybrid.llm.client.messages.MAX_ANSWER_BYTES", 1 << 20)
    for module in ("sync_client", "async_client"):
        monkeypatch.setattr(f"hybrid.client.{module}.MAX_REPLY_BYTES", 1 << 20)
    config = ClientConfig(timeout_s=GIVE_UP_S, retries=0)
    with talking(endless) as url:
        reply = Messages("judge", base_url=url, retry=Retry(tries=1)).ask(REQUEST)
        assert reply.status == "failed"
        assert "over 1048576 bytes" in reply.reason
        with pytest.raises(UnreachableError, match="over 1048576 bytes"), Client(url, config=config) as client:
            client.classify(["soup"])
        with pytest.raises(UnreachableError, match="over 1048576 bytes"):
            asyncio.run(_ask(url, ["soup"], config))


def test_a_name_without_an_address_is_a_connection_that_failed() -> None:
    with pytest.raises(UnreachableError), Client("http://nowhere.invalid", config=ClientConfig(retries=0)) as client:
        client.classify(["soup"])
    with pytest.raises(LLMError, match="start the server or correct base_url"):
        Messages("judge", base_url="http://nowhere.invalid", retry=Retry(tries=1)).ask(REQUEST)
