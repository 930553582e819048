"""Pages of other sites, in a browser on this machine, reach nothing of a service without keys."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from serving.http.access import name_of
from serving.http.openapi import build_openapi
from serving.protocols.all import PROTOCOLS, PUBLIC_PATHS
from serving.settings import API_KEYS, Settings, read_settings
from tests.serving.http_requests import DIALECTS, client, send
from tests.serving.scripted import Scripted, at_once
from tests.serving.threaded import served

PATHS = sorted(path.replace("{name}", "dishes").replace("{version}", "1") for path in build_openapi()["paths"])
FOREIGN = [
    "evil.example",
    "evil.example:8000",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "localhost:evil.example",
    "evil.example#localhost",
    "user@localhost",
    "localhost@evil.example",
    "[::1]evil.example",
    "[::1",
    "10.0.0.5",
    "0.0.0.0",
    "2130706433.evil.example",
    "x" * 400,
]
OURS = ["localhost", "LOCALHOST:1", "localhost.", "app.localhost:80", "127.0.0.1", "127.0.0.2:9", "[::1]", "[::1]:8000"]


@pytest.fixture(scope="module")
def service(bundle_dir: Path) -> Scripted:
    return Scripted(bundle_dir, at_once)


@pytest.fixture(scope="module")
def keyless(service: Scripted) -> Iterator[str]:
    with served(service) as url:
        yield url


def status(url: str, host: str, path: str = "/v1/bundle") -> int:
    return client().get(url + path, headers={"Host": host.encode()}).status_code  # type: ignore[dict-item]


@pytest.mark.parametrize("host", FOREIGN)
def test_a_host_that_is_not_this_service_is_refused_with_what_to_do(keyless: str, host: str) -> None:
    reply = client().get(f"{keyless}/v1/bundle", headers={"Host": host})
    assert (reply.status_code, reply.json()["error"]["kind"]) == (421, "misdirected")
    assert "add the name with the setting hosts or, where that is empty, set HYBRID_API_KEYS" in reply.text


@pytest.mark.parametrize("host", OURS)
def test_the_names_of_this_machine_are_answered_to(keyless: str, host: str) -> None:
    assert status(keyless, host) == 200


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_no_route_but_the_probes_answers_to_another_host(keyless: str, service: Scripted, method: str) -> None:
    asked = service.asked
    for path in [*PATHS, "/docs", "/openapi.json", "/metrics", "/", "/nothing"]:
        reply = client().request(method, keyless + path, headers={"Host": "evil.example"})
        assert (reply.status_code == 421) == (path not in PUBLIC_PATHS), path
    assert service.asked == asked


def test_of_several_hosts_none_may_be_another(keyless: str) -> None:
    request = b"GET /v1/bundle HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
    assert send(keyless, request).split()[1] in (b"400", b"421")


def test_a_setting_adds_names_and_a_key_or_another_interface_takes_any(
    service: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "service.toml").write_text('hosts = ["Dishes.example", "10.0.0.5"]\n')
    named = read_settings(tmp_path / "service.toml")
    with served(service, named) as url:
        assert [status(url, host) for host in ("dishes.example:443", "10.0.0.5", "localhost")] == [200] * 3
        assert status(url, "evil.example") == 421
    with served(service, Settings(host="0.0.0.0")) as url:
        assert status(url, "hybrid.internal") == 200
    with served(service, Settings(host="0.0.0.0", hosts=("dishes.example",))) as url:
        assert [status(url, host) for host in ("dishes.example", "evil.example")] == [200, 421]
    monkeypatch.setenv(API_KEYS, "soup")
    with served(service) as url:
        key = {"X-API-Key": "soup", "Host": "evil.example"}
        assert client().get(f"{url}/v1/bundle", headers=key).status_code == 200


@pytest.mark.parametrize(
    ("header", "name"),
    [("A.example:8000", "a.example"), ("[2001:DB8::1]:80", "2001:db8::1"), ("a:b", None), ("[::1]x", None)],
)
def test_a_host_without_its_port(header: str, name: str | None) -> None:
    assert name_of(header) == name


SIMPLE_TYPES = [
    None,
    "text/plain",
    "text/plain;charset=UTF-8",
    "application/x-www-form-urlencoded",
    "multipart/form-data",
]
"""What a page may send to another site without asking first (https://fetch.spec.whatwg.org/, safelisted)."""


@pytest.mark.parametrize("media", SIMPLE_TYPES)
def test_a_simple_request_of_another_site_asks_nobody(keyless: str, service: Scripted, media: str | None) -> None:
    asked, page = service.asked, {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    posts = [operation.path for protocol in PROTOCOLS for operation in protocol.operations if operation.asks]
    bodies: dict[str, Any] = {dialect.path: dialect.body(["soup"]) for dialect in DIALECTS.values()}
    for path in posts:
        path = path.replace("{name}", "dishes").replace("{version}", Scripted.bundle_id)
        content = encoded(bodies.get(path, bodies["/v2/models/dishes/infer"]))
        headers = page | ({"Content-Type": media} if media else {})
        assert client().post(keyless + path, content=content, headers=headers).status_code == 415, path
    assert service.asked == asked


def encoded(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


def test_a_browser_that_asks_first_is_not_let_in(keyless: str) -> None:
    asks = {
        "Origin": "https://evil.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    reply = client().options(f"{keyless}/v1/classify", headers=asks)
    assert reply.status_code == 405
    assert not [name for name in reply.headers if name.startswith("access-control-")]


def test_only_the_protocol_whose_client_sends_no_type_takes_a_body_without_one(keyless: str) -> None:
    statuses = {
        name: client().post(keyless + dialect.path, content=encoded(dialect.body(["soup"]))).status_code
        for name, dialect in DIALECTS.items()
    }
    assert statuses == dict.fromkeys(DIALECTS, 415) | {"oip": 200}
