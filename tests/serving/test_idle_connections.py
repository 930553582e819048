"""A connection that asks nothing, sends on for nothing or reads nothing is closed: none is held for ever."""

import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from serving.http.connection import BoundedHttpProtocol
from serving.settings import Limits, Settings
from tests.serving.http_requests import client, post, receive, statuses
from tests.serving.scripted import Scripted, at_once
from tests.serving.threaded import served

PATH = "/v1/classify"
BODY = b'{"inputs": "soup"}'
GIVE_UP_S = 60
"""A test that would hang fails after this."""


class Hasty(BoundedHttpProtocol):
    head_timeout_s = rest_timeout_s = stalled_s = 0.2


@pytest.fixture(scope="module")
def url(bundle_dir: Path) -> Iterator[str]:
    with served(Scripted(bundle_dir, at_once), Settings(limits=Limits(body_bytes=1000)), http=Hasty) as url:
        yield url


def connected(url: str) -> socket.socket:
    place = urlsplit(url)
    return socket.create_connection((place.hostname, place.port), timeout=GIVE_UP_S)


def read_to_the_end(wire: socket.socket) -> bytes:
    """Return what comes until the other side closes; one that does not is a `TimeoutError`."""
    content = b""
    while chunk := wire.recv(1 << 16):
        content += chunk
    return content


def test_an_empty_line_behind_a_request_does_not_hold_the_connection(url: str) -> None:
    with connected(url) as wire:
        wire.sendall(post(PATH, BODY) + b"\r\n")
        assert statuses(read_to_the_end(wire)) == [200, 408]


@pytest.mark.parametrize("length", ["Content-Length: 5000", "Transfer-Encoding: chunked"])
def test_a_body_that_goes_on_behind_its_refusal_does_not_hold_the_connection(url: str, length: str) -> None:
    with connected(url) as wire:
        wire.sendall(
            f"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{length}\r\n\r\n".encode()
        )
        assert statuses(read_to_the_end(wire)) == [404]


def test_a_body_that_ends_behind_its_refusal_leaves_the_connection_open(url: str) -> None:
    with connected(url) as wire:
        wire.sendall(
            b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\nso"
        )
        assert statuses(receive(wire, quiet_s=0.05)) == [404]
        wire.settimeout(GIVE_UP_S)
        wire.sendall(b"up" + post(PATH, BODY, "Connection: close"))
        assert statuses(read_to_the_end(wire)) == [200]


def test_who_does_not_read_the_replies_is_cut_off(url: str) -> None:
    page = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connected(url) as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        with pytest.raises(ConnectionError):
            while True:
                wire.sendall(page * 1000)
    assert client().post(url + PATH, json={"inputs": "soup"}).status_code == 200
