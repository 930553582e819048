"""A client that leaves: what was begun for it ends, and nobody else notices."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from serving.errors import ItemError
from serving.types import Answer
from tests.serving.http_requests import DIALECTS, client, post, receive, statuses
from tests.serving.scripted import Scripted, sure_of
from tests.serving.threaded import served
from tests.waiting import wait_until


async def patient(text: str) -> Answer | ItemError:
    """Take long over a text that asks for it."""
    await asyncio.sleep(60 if text == "slow" else 0)
    return sure_of("good")


@pytest.fixture
def slow(bundle_dir: Path) -> Iterator[tuple[str, Scripted]]:
    service = Scripted(bundle_dir, patient)
    with served(service) as url:
        yield url, service


def leaving(url: str, path: str, body: object) -> socket.socket:
    """Ask, and return the connection without waiting for the answer."""
    place = urlsplit(url)
    wire = socket.create_connection((place.hostname, place.port))
    wire.sendall(post(path, body))
    return wire


@pytest.mark.parametrize("protocol", DIALECTS)
def test_work_ends_when_its_client_leaves_and_not_while_it_waits(slow: tuple[str, Scripted], protocol: str) -> None:
    url, service = slow
    dialect = DIALECTS[protocol]
    stays = leaving(url, dialect.path, dialect.body(["slow"]))
    leaves = leaving(url, dialect.path, dialect.body(["slow"]))
    wait_until(lambda: service.asked == 2)
    leaves.close()
    wait_until(lambda: service.cancelled == 1)
    assert client().post(url + dialect.path, json=dialect.body(["quick"])).status_code == 200
    assert service.cancelled == 1  # the control: the one that stays is still being worked for
    stays.close()
    wait_until(lambda: service.cancelled == 2)


@pytest.mark.slow
def test_half_of_a_hundred_clients_leave_and_the_others_are_answered(slow: tuple[str, Scripted]) -> None:
    url, service = slow
    gate = asyncio.Event()

    async def gated(text: str) -> Answer | ItemError:
        while not gate.is_set():
            await asyncio.sleep(0.01)
        return sure_of("good")

    service.act = gated
    wires = [leaving(url, "/v1/classify", {"inputs": f"soup {number}"}) for number in range(100)]
    wait_until(lambda: service.asked == 100)
    for wire in wires[::2]:
        wire.close()
    wait_until(lambda: service.cancelled == 50)
    gate.set()
    assert [statuses(receive(wire, quiet_s=0.01)) for wire in wires[1::2]] == [[200]] * 50
    assert (service.ended, service.cancelled) == (50, 50)
    for wire in wires[1::2]:
        wire.close()


def test_a_client_that_leaves_before_its_body_is_there_asks_nothing(slow: tuple[str, Scripted]) -> None:
    url, service = slow
    place = urlsplit(url)
    with socket.create_connection((place.hostname, place.port)) as wire:
        wire.sendall(post("/v1/classify", {"inputs": "soup"})[:-3])
    with contextlib.suppress(OSError):
        client().get(f"{url}/livez")
    assert client().post(f"{url}/v1/classify", json={"inputs": "quick"}).status_code == 200
    assert service.asked == 1
