"""What HTTP libraries never send: sizes that lie, heads without an end, bodies that drip, requests inside requests."""

import gzip
import json
import socket
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from serving.http.body import _PlainBody
from serving.http.connection import BoundedHttpProtocol
from serving.settings import Limits, Settings
from tests.serving.http_requests import DIALECTS, client, post, receive, send, statuses
from tests.serving.scripted import Scripted, at_once
from tests.serving.threaded import served

GOOD = {"inputs": "The soup was stale."}
PATH = "/v1/classify"
MIB = 1 << 20


class Hasty(BoundedHttpProtocol):
    head_timeout_s = 0.5


@pytest.fixture(scope="module")
def scripted(bundle_dir: Path) -> Scripted:
    return Scripted(bundle_dir, at_once)


@pytest.fixture(scope="module")
def hasty(scripted: Scripted) -> Iterator[str]:
    """A server that waits half a second for a head and for a body."""
    settings = Settings(limits=Limits(body_timeout_ms=500))
    with served(scripted, settings, http=Hasty) as url:
        yield url


@pytest.fixture(autouse=True)
def still_serves(hasty: str) -> Iterator[None]:
    """Whatever was sent, the next caller is answered."""
    yield
    assert client().post(hasty + PATH, json=GOOD).status_code == 200


def head(*lines: str) -> bytes:
    start = [f"POST {PATH} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    return "\r\n".join([*start, *lines, "", ""]).encode()


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


BODY = b'{"inputs": "soup"}'
HEADS: dict[str, tuple[bytes, list[int]]] = {
    "a sound request": (head(f"Content-Length: {len(BODY)}") + BODY, [200]),
    "in chunks": (head("Transfer-Encoding: chunked") + chunked(b'{"inputs"', b': "so', b'up"}'), [200]),
    "a byte a chunk": (head("Transfer-Encoding: chunked") + chunked(*(bytes([one]) for one in BODY)), [200]),
    "HTTP/1.0": (post(PATH, GOOD, version="1.0"), [200]),
    "no Host": (post(PATH, GOOD).replace(b"Host: localhost\r\n", b""), [200]),
    "a Host that is no host": (post(PATH, {"inputs": ""}).replace(b"Host: localhost", b"Host: ["), [421]),
    "a Host with a path": (post("/soup", GOOD).replace(b"Host: localhost", b"Host: a/v2?b"), [421]),
    "an absolute URL": (post(f"http://elsewhere.example{PATH}", GOOD), [200]),
    "a query": (post(f"{PATH}?a=b&__proto__=1", GOOD), [200]),
    "an offer to upgrade": (post(PATH, GOOD, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c"), [200]),
    "a WebSocket": (post(PATH, GOOD, "Connection: Upgrade", "Upgrade: websocket"), [200]),
    "an expectation": (head("Expect: 100-continue", f"Content-Length: {len(BODY)}") + BODY, [100, 200]),
    "length and chunks": (head("Content-Length: 4", "Transfer-Encoding: chunked") + chunked(BODY), [400]),
    "two lengths": (head("Content-Length: 18", "Content-Length: 4") + BODY, [400]),
    "a negative length": (head("Content-Length: -1") + BODY, [400]),
    "a signed length": (head("Content-Length: +18") + BODY, [400]),
    "a length in hex": (head("Content-Length: 0x12") + BODY, [400]),
    "a length beyond 64 bits": (head("Content-Length: " + "9" * 30) + BODY, [400]),
    "a length of two gigabytes": (head("Content-Length: 2147483648") + BODY, [413]),
    "an unknown transfer encoding": (head("Transfer-Encoding: gzip") + BODY, [400]),
    "chunked twice": (head("Transfer-Encoding: chunked, chunked") + chunked(BODY), [200, 400]),
    "chunked in disguise": (head("Transfer-Encoding: xchunked", f"Content-Length: {len(BODY)}") + BODY, [400]),
    "a chunk whose size is a lie": (head("Transfer-Encoding: chunked") + b"5\r\n{}\r\n0\r\n\r\n", [400, 408]),
    "a chunk of a negative size": (head("Transfer-Encoding: chunked") + b"-5\r\n{}\r\n0\r\n\r\n", [400]),
    "a chunk beyond 64 bits": (head("Transfer-Encoding: chunked") + b"f" * 20 + b"\r\n{}\r\n", [400]),
    "no request": (b"soup\r\n\r\n", [400]),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100, [400]),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400, 404, 405]),
    "a header without a colon": (head("soup") + BODY, [400]),
    "a space before the colon": (head("Content-Length : 18") + BODY, [400]),
    "a folded header": (head("X-Soup: a", " b", f"Content-Length: {len(BODY)}") + BODY, [200, 400]),
    "NUL in a header": (head("X-Soup: a\0b", f"Content-Length: {len(BODY)}") + BODY, [400]),
    "NUL in the path": (post("/v1/\0classify", GOOD), [400]),
    "bytes beyond ASCII in the path": (b"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: localhost\r\n\r\n", [400, 404]),
    "a path that is no UTF-8": (b"GET /%ff%fe HTTP/1.1\r\nHost: localhost\r\n\r\n", [404]),
    "a path without a slash": (b"GET soup HTTP/1.1\r\nHost: localhost\r\n\r\n", [400, 404]),
    "a star": (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n", [400, 404, 405]),
    "CONNECT": (b"CONNECT here:80 HTTP/1.1\r\nHost: localhost\r\n\r\n", [400, 404, 405]),
    "a line feed in an id": (head("X-Request-Id: a\r\n\tSet-Cookie: b", "Content-Length: 18") + BODY, [200, 400]),
    "a head of a megabyte": (head("X-Soup: " + "a" * MIB), [431]),
    "a path of a megabyte": (post("/" + "a" * MIB, GOOD), [414]),
    "fifty thousand headers": (head(*(f"X-{at}: a" for at in range(50_000))), [431]),
}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_is_understood_or_refused(hasty: str, name: str) -> None:
    content, allowed = HEADS[name]
    reply = send(hasty, content, quiet_s=0.25)
    codes = statuses(reply)
    assert codes, reply[:200]
    assert len(codes) <= len(allowed)
    assert set(codes) <= set(allowed), reply[:500]
    assert b"set-cookie" not in reply.lower()


@pytest.mark.parametrize("path", [PATH, "/predict", "/v2/models/soup/infer", "/v1/decisions", "/soup"])
def test_what_is_no_http_is_refused_in_the_words_of_the_path(hasty: str, path: str) -> None:
    reply = send(hasty, f"POST {path} HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n".encode())
    top, _, body = reply.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in top.lower()
    assert statuses(reply)[0] in (400, 422)
    assert "Send HTTP/1.1" in json.dumps(json.loads(body))
    assert statuses(send(hasty, b"\x16\x03\x01 no HTTP at all\r\n\r\n")) == [400]


@pytest.mark.parametrize("cut", range(1, len("Upgrade:") + 1))
def test_an_offer_to_upgrade_that_is_cut_in_two_loses_no_body_on_a_connection_that_was_used(
    hasty: str, cut: int
) -> None:
    sent = post(PATH, GOOD, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c")
    at = sent.index(b"Upgrade: h2c") + cut
    with connected(hasty) as wire:
        for _ in range(2):
            wire.sendall(sent[:at])
            time.sleep(0.02)  # so that two chunks arrive
            wire.sendall(sent[at:])
            assert statuses(receive(wire, quiet_s=0.25)) == [200]


def test_requests_in_one_go_are_answered_one_after_the_other(hasty: str) -> None:
    request = head(f"Content-Length: {len(BODY)}") + BODY
    last = head(f"Content-Length: {len(BODY)}", "Connection: close") + BODY
    assert statuses(send(hasty, request * 19 + last, quiet_s=30)) == [200] * 20


def test_a_request_hidden_in_anothers_body_is_not_answered(hasty: str, scripted: Scripted) -> None:
    hidden = post(PATH, {"inputs": "smuggled"})
    asked = scripted.asked
    for outer in (
        head("Content-Length: 4", "Transfer-Encoding: chunked") + b"0\r\n\r\n" + hidden,
        head("Transfer-Encoding: chunked", "Transfer-Encoding: identity") + b"0\r\n\r\n" + hidden,
        head("Content-Length: 0", f"Content-Length: {len(hidden)}") + hidden,
    ):
        assert set(statuses(send(hasty, outer))) <= {400}
    assert scripted.asked == asked
    assert statuses(send(hasty, hidden)) == [200]


@pytest.mark.parametrize("protocol", DIALECTS)
def test_a_body_over_the_limit_is_refused_as_it_comes(hasty: str, protocol: str) -> None:
    dialect = DIALECTS[protocol]
    fits, over = b" " * (MIB - 4) + b"soup", b" " * (MIB + 1)
    json_type = {"Content-Type": "application/json"}
    assert client().post(hasty + dialect.path, content=fits, headers=json_type).status_code == dialect.malformed
    assert client().post(hasty + dialect.path, content=over, headers=json_type).status_code == 413
    pieces = (over[at : at + 50_000] for at in range(0, len(over), 50_000))
    assert client().post(hasty + dialect.path, content=pieces, headers=json_type).status_code == 413


GZIPPED = {"Content-Type": "application/json", "Content-Encoding": "gzip"}


def test_gzip_is_unpacked_up_to_the_limit_and_not_a_byte_further(hasty: str) -> None:
    url = hasty + PATH
    assert client().post(url, content=gzip.compress(BODY), headers=GZIPPED).status_code == 200
    inside = b'{"inputs": "soup"}'.ljust(MIB)
    assert client().post(url, content=gzip.compress(inside), headers=GZIPPED).status_code == 200
    assert client().post(url, content=gzip.compress(inside + b" "), headers=GZIPPED).status_code == 413


def test_a_gzip_bomb_costs_what_a_megabyte_costs(hasty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    packer = zlib.compressobj(9, wbits=31)
    start = packer.compress(b"\0") + packer.flush(zlib.Z_FULL_FLUSH)
    a_megabyte_more = packer.compress(b"\0" * MIB) + packer.flush(zlib.Z_FULL_FLUSH)  # stands alone, so it repeats
    bomb = start + a_megabyte_more * (900_000 // len(a_megabyte_more))
    assert len(zlib.decompressobj(31).decompress(bomb, 50 * MIB)) == 50 * MIB
    unpacked: list[int] = []
    add = _PlainBody.add
    monkeypatch.setattr(_PlainBody, "add", lambda body, chunk: (unpacked.append(len(chunk)), add(body, chunk)))
    assert client().post(hasty + PATH, content=bomb, headers=GZIPPED).status_code == 413
    assert sum(unpacked) <= len(bomb) + MIB + 1


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"soup",
        gzip.compress(BODY)[:-9],
        gzip.compress(BODY) + b"soup",
        gzip.compress(BODY) * 2,
        zlib.compress(BODY),
    ],
    ids=["empty", "not compressed", "cut off", "more after it", "two members", "zlib"],
)
def test_what_is_not_one_whole_gzip_member_is_refused(hasty: str, content: bytes) -> None:
    reply = client().post(hasty + PATH, content=content, headers=GZIPPED)
    assert reply.status_code == 400
    assert "gzip" in reply.text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": "application/json; charset*=utf-8''utf-8"},
        {"Content-Type": "soup"},
        {"Content-Type": ""},
        {"Content-Type": "application/json", "Content-Encoding": "br"},
        {"Content-Type": "application/json", "Content-Encoding": "deflate"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip, gzip"},
    ],
)
def test_a_type_charset_or_encoding_that_is_not_read_is_415(hasty: str, headers: dict[str, str]) -> None:
    reply = client().post(hasty + PATH, content=BODY, headers=headers)
    assert (reply.status_code, reply.json()["error"]["kind"]) == (415, "unsupported")


@pytest.mark.parametrize(
    "media",
    [
        "application/json",
        "APPLICATION/JSON; Charset=UTF-8",
        'application/json;charset="utf-8"',
        "application/vnd.x+json",
    ],
)
def test_json_in_utf8_is_read_however_it_is_announced(hasty: str, media: str) -> None:
    assert client().post(hasty + PATH, content=BODY, headers={"Content-Type": media}).status_code == 200


def connected(url: str) -> socket.socket:
    place = urlsplit(url)
    return socket.create_connection((place.hostname, place.port), timeout=30)


@pytest.mark.slow
def test_a_body_that_drips_is_given_up(hasty: str, scripted: Scripted) -> None:
    asked = scripted.asked
    with connected(hasty) as wire:
        wire.sendall(head(f"Content-Length: {len(BODY)}") + BODY[:-1])
        assert statuses(receive(wire)) == [408]
    with connected(hasty) as wire:
        wire.sendall(head("Transfer-Encoding: chunked"))
        for _ in range(16):
            try:
                wire.sendall(b"1\r\n \r\n")
            except OSError:
                break
            time.sleep(0.05)
        assert 408 in statuses(receive(wire))
    assert scripted.asked == asked


@pytest.mark.slow
@pytest.mark.parametrize("sent", [b"", b"POST /v1/cl", head("X-Soup: a")[:-2]])
def test_a_head_that_drips_or_never_comes_is_given_up(hasty: str, sent: bytes) -> None:
    with connected(hasty) as wire:
        wire.sendall(sent)
        assert statuses(receive(wire, quiet_s=30)) == [408]


@pytest.mark.slow
def test_five_hundred_slow_connections_do_not_keep_others_out(hasty: str) -> None:
    wires = [connected(hasty) for _ in range(500)]
    try:
        for wire in wires:
            wire.sendall(b"POST ")
        assert client().post(hasty + PATH, json=GOOD).status_code == 200
        assert statuses(receive(wires[0], quiet_s=30)) == [408]
    finally:
        for wire in wires:
            wire.close()


def test_a_length_that_promises_more_than_comes_asks_nothing(hasty: str, scripted: Scripted) -> None:
    asked = scripted.asked
    reply = send(hasty, head("Content-Length: 1000") + BODY, half_close=True)
    assert statuses(reply) in ([], [408])
    assert scripted.asked == asked


def test_a_length_that_promises_less_reads_no_further(hasty: str) -> None:
    reply = send(hasty, head("Content-Length: 2") + b'{}{"inputs": "soup"}')
    assert set(statuses(reply)) == {400}  # what follows the empty object is no request


class Counting(BoundedHttpProtocol):
    """Counts the bytes that are searched for the end of a chunked body."""

    n_searched = 0

    def _next_cut(self) -> int:
        Counting.n_searched += len(self._tail) + len(self._unread)
        return super()._next_cut()


@pytest.mark.slow
def test_chunks_of_a_byte_cost_no_more_than_their_number(scripted: Scripted) -> None:
    body = BODY.ljust(32_000)
    content = head("Transfer-Encoding: chunked") + chunked(*(body[at : at + 1] for at in range(len(body))))
    with served(scripted, http=Counting) as url:
        assert statuses(send(url, content)) == [200]
    assert len(body) < Counting.n_searched < 2 * len(content)  # searched anew for each, it would be thousands of times
