"""What is parsed of a head has a limit that is checked first: a parser's cost may grow faster than the value."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.http import endpoint
from serving.http.head import MAX_BYTES_OF, MAX_HEADER_BYTES, MAX_HEADERS, MAX_URL_BYTES
from tests.serving.http_requests import DIALECTS, client, post, send, statuses
from tests.serving.scripted import Scripted, at_once
from tests.serving.threaded import served

PATH = "/v1/classify"
BODY = b'{"inputs": "soup"}'
PARSED = ["Content-Type", "Content-Encoding", "X-Request-Timeout-Ms", "Authorization", "X-API-Key", "X-Request-Id"]
PARSED += ["traceparent", "tracestate", "Host", "Accept", "Origin", "Forwarded", "X-Forwarded-For", "Cookie"]
LONG = {
    "one letter": "a",
    "parameters": ";a=b",
    "empty parameters": ";",
    "open brackets": "(",
    "open quotes": '"',
    "continued parameters": ";a*0*=x",
    "commas": "a,",
    "spaces and tabs": " \t",
    "backslashes": "\\",
    "percent signs": "%25",
    "encoded words": "=?utf-8?q?a?= ",
}


@pytest.fixture(scope="module")
def scripted(bundle_dir: Path) -> Scripted:
    return Scripted(bundle_dir, at_once)


@pytest.fixture(scope="module")
def url(scripted: Scripted) -> Iterator[str]:
    with served(scripted) as url:
        yield url


def request(name: str, value: str) -> bytes:
    lines = ["Host: localhost", "Content-Type: application/json"]
    head = [line for line in lines if not line.lower().startswith(f"{name.lower()}:")]
    length = f"Content-Length: {len(BODY)}"
    return "\r\n".join([f"POST {PATH} HTTP/1.1", *head, f"{name}: {value}", length, "", ""]).encode() + BODY


@pytest.mark.parametrize("name", PARSED)
@pytest.mark.parametrize("long", LONG)
def test_a_long_header_is_refused_before_it_is_parsed(
    url: str, scripted: Scripted, name: str, long: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(*values: Any) -> None:
        raise AssertionError(f"parsed: {values!r:.100}")

    monkeypatch.setattr(endpoint, "check_type", parse)
    asked = scripted.asked
    value = f'a; a="{LONG[long] * (60_000 // len(LONG[long]))}z'
    reply = send(url, request(name, value))
    assert statuses(reply) == [431]
    error = json.loads(reply.partition(b"\r\n\r\n")[2])["error"]
    assert error["kind"] == "head_too_large"
    assert f"the header {name.lower()} has {len(value)} bytes; expected at most" in error["message"]
    assert scripted.asked == asked


@pytest.mark.parametrize("name", PARSED)
def test_a_header_up_to_the_limit_is_read(url: str, name: str) -> None:
    limit = MAX_BYTES_OF.get(name.lower().encode(), MAX_HEADER_BYTES)
    assert statuses(send(url, request(name, "a" * (limit + 1)), quiet_s=0.1)) == [431]
    assert 431 not in statuses(send(url, request(name, "a" * limit), quiet_s=0.1))


def test_a_media_type_of_the_longest_length_is_parsed(url: str) -> None:
    value = "application/json" + ";" * (MAX_BYTES_OF[b"content-type"] - len("application/json"))
    assert statuses(send(url, request("Content-Type", value), quiet_s=0.1)) == [200]


def test_a_long_url_and_many_headers_are_refused(url: str) -> None:
    head = f"{PATH}?"
    assert statuses(send(url, post(head + "a" * (MAX_URL_BYTES - len(head)), BODY), quiet_s=0.1)) == [200]
    assert statuses(send(url, post(head + "a" * (MAX_URL_BYTES - len(head) + 1), BODY))) == [414]
    few = [f"X-{number}: a" for number in range(MAX_HEADERS - 3)]
    assert statuses(send(url, post(PATH, BODY, *few), quiet_s=0.1)) == [200]
    assert statuses(send(url, post(PATH, BODY, *few, "X: a"))) == [431]


@pytest.mark.parametrize("protocol", DIALECTS)
def test_the_refusal_has_the_words_of_the_protocol(url: str, protocol: str) -> None:
    dialect = DIALECTS[protocol]
    reply = client().post(url + dialect.path, content=BODY, headers={"Content-Type": "a" * 5000})
    assert reply.status_code == 431
    assert "content-type has 5000 bytes; expected at most 256" in reply.text
