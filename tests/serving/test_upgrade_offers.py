"""Clients that offer another protocol with each request are answered on HTTP/1.1, on one connection, body and all."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from serving.http.connection import MOST_CUTS, BoundedHttpProtocol
from tests.serving.http_requests import post, receive, send, statuses
from tests.serving.scripted import Scripted, at_once
from tests.serving.threaded import served

PATH = "/v1/classify"
BODY = b'{"inputs": "soup"}'
OFFERS = {
    "h2c": ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"),
    "websocket": ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="),
    "in capitals": ("CONNECTION: UPGRADE", "UPGRADE: TLS/1.0"),
}
JAVA = """
import java.net.URI;
import java.net.http.*;
public class Ask {
    public static void main(String[] words) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        for (int i = 0; i < 4; i++) {
            HttpRequest.BodyPublisher body = i % 2 == 0
                ? HttpRequest.BodyPublishers.ofString("{\\"inputs\\": \\"soup" + "x".repeat(i * 20000) + "\\"}")
                : HttpRequest.BodyPublishers.fromPublisher(HttpRequest.BodyPublishers.ofString("{\\"inputs\\": \\"soup\\"}"));
            HttpRequest request = HttpRequest.newBuilder(URI.create(words[0]))
                .header("Content-Type", "application/json").POST(body).build();
            System.out.println(client.send(request, HttpResponse.BodyHandlers.ofString()).statusCode());
        }
    }
}
"""


class Recorded(BoundedHttpProtocol):
    """Counts connections."""

    n_made = 0

    def connection_made(self, transport: object) -> None:  # type: ignore[override]
        Recorded.n_made += 1
        super().connection_made(transport)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def url(bundle_dir: Path) -> Iterator[str]:
    with served(Scripted(bundle_dir, at_once), http=Recorded) as url:
        yield url


def chunked(*headers: str, body: bytes = BODY) -> bytes:
    lines = [f"POST {PATH} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers]
    head = "\r\n".join([*lines, "Transfer-Encoding: chunked", "", ""])
    return head.encode() + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def connected(url: str) -> socket.socket:
    place = urlsplit(url)
    return socket.create_connection((place.hostname, place.port), timeout=30)


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("encode", ["length", "chunked"])
def test_each_request_of_a_connection_keeps_its_body(url: str, offer: str, encode: str) -> None:
    request = post(PATH, BODY, *OFFERS[offer]) if encode == "length" else chunked(*OFFERS[offer])
    with connected(url) as wire:
        for _ in range(3):
            wire.sendall(request)
            assert statuses(receive(wire, quiet_s=0.1)) == [200]


@pytest.mark.parametrize("offer", OFFERS)
@pytest.mark.parametrize("first", ["none", "length", "chunked", "chunked with empty lines", "offered and chunked"])
def test_a_request_that_arrives_behind_another_in_one_piece_keeps_its_body(url: str, offer: str, first: str) -> None:
    before = {
        "none": b"",
        "length": post(PATH, BODY),
        "chunked": chunked(),
        "chunked with empty lines": chunked(body=BODY + b"\r\n\r\n" * (MOST_CUTS // 4)),
        "offered and chunked": chunked(*OFFERS[offer]),
    }[first]
    last = post(PATH, BODY, *OFFERS[offer], "Connection: close")
    expected = [200] * (3 if before else 2)
    assert statuses(send(url, before + post(PATH, BODY, *OFFERS[offer]) + last, quiet_s=10)) == expected


@pytest.mark.parametrize("at", range(1, 60, 2))
def test_wherever_the_end_of_a_chunked_body_and_the_next_offer_are_cut(url: str, at: int) -> None:
    sent = chunked() + post(PATH, BODY, "Upgrade: h2c", "Connection: Upgrade, close")
    cut = len(chunked()) - 6 + at
    with connected(url) as wire:
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire.sendall(sent[:cut])
        wire.sendall(sent[cut:])
        assert statuses(receive(wire, quiet_s=10)) == [200, 200]


def test_a_body_that_hides_an_offer_from_the_filter_ends_the_connection_and_not_the_service(url: str) -> None:
    hidden = chunked(body=BODY + b"\r\n\r\n" * (MOST_CUTS + 1)) + post(PATH, BODY, *OFFERS["h2c"])
    assert statuses(send(url, hidden, quiet_s=10))[0] == 200
    assert statuses(send(url, post(PATH, BODY, "Connection: close"))) == [200]


def test_a_tunnel_is_refused_and_what_is_sent_into_it_is_not_answered(url: str) -> None:
    reply = send(url, b"CONNECT here:80 HTTP/1.1\r\nHost: localhost\r\n\r\n" + post(PATH, BODY), quiet_s=10)
    assert len(statuses(reply)) == 1
    assert statuses(reply)[0] in (400, 404, 405)
    assert b"connection: close" in reply.lower()


def test_ten_thousand_requests_in_one_piece_are_read_one_after_the_other(url: str) -> None:
    many = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2000
    last = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    assert statuses(send(url, many + last, quiet_s=30)) == [200] * 2001


def test_curl_with_http2_reuses_its_connection(url: str) -> None:
    if shutil.which("curl") is None or "HTTP2" not in subprocess.check_output(["curl", "--version"], text=True):
        pytest.skip("needs a curl with HTTP/2")
    ask = ["--http2", "-s", "-o", "/dev/null", "-w", "%{http_code} ", "-d", BODY.decode()]
    ask += ["-H", "Content-Type: application/json", url + PATH]
    before = Recorded.n_made
    words = ["curl", "--noproxy", "*", *ask, "--next", *ask, "--next", *ask]
    assert subprocess.check_output(words, text=True, timeout=60).split() == ["200", "200", "200"]
    assert Recorded.n_made == before + 1


@pytest.mark.slow
def test_javas_client_reuses_its_connection(url: str, tmp_path: Path) -> None:
    if shutil.which("java") is None or "jdk.compiler" not in _java_modules():
        pytest.skip("needs a JDK, version 11 or later")
    (tmp_path / "Ask.java").write_text(JAVA)
    before = Recorded.n_made
    words = ["java", "-Djava.net.useSystemProxies=false", str(tmp_path / "Ask.java"), url + PATH]
    assert subprocess.check_output(words, text=True, timeout=120).split() == ["200"] * 4
    assert Recorded.n_made == before + 1


def _java_modules() -> str:
    return subprocess.run(["java", "--list-modules"], capture_output=True, text=True, check=False).stdout
