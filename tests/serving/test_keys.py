"""API keys: every route but the probes asks for one, and a bundle is changed by whoever may."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from hybrid.errors import ConfigError
from serving.http.access import Keys, read_keys
from serving.http.app import build_app
from serving.protocols.all import PUBLIC_PATHS
from serving.settings import API_KEYS, Settings
from tests.serving.http_requests import client
from tests.serving.scripted import Scripted, at_once
from tests.serving.threaded import served

KEYS = ["soup-of-the-day", "clé-æ"]


async def _page(request: Request) -> Response:
    return PlainTextResponse("a page")


@pytest.fixture(scope="module")
def guarded(bundle_dir: Path) -> Iterator[str]:
    patch = pytest.MonkeyPatch()
    patch.setenv(API_KEYS, ", ".join(KEYS))
    with served(Scripted(bundle_dir, at_once), extra_routes=[Route("/metrics", _page)]) as url:
        patch.undo()
        yield url


@pytest.fixture(scope="module")
def open_server(bundle_dir: Path) -> Iterator[str]:
    with served(Scripted(bundle_dir, at_once)) as url:
        yield url


def all_paths(bundle_dir: Path) -> list[str]:
    routes = build_app(Scripted(bundle_dir, at_once), Settings()).routes
    return [route.path.replace("{name}", "dishes") for route in routes if isinstance(route, Route)]


@pytest.mark.slow
def test_every_route_but_the_probes_asks_for_a_key(guarded: str, bundle_dir: Path) -> None:
    paths = [*all_paths(bundle_dir), "/metrics", "/", "/no/such/route"]
    assert len(paths) > 20
    for path in paths:
        for method in ("GET", "POST", "HEAD", "OPTIONS"):
            status = client().request(method, guarded + path).status_code
            assert (status == 401) == (path not in PUBLIC_PATHS), (method, path, status)


def test_a_route_that_does_not_exist_is_told_from_one_that_does_only_with_a_key(guarded: str) -> None:
    key = {"X-API-Key": KEYS[0]}
    assert [client().get(guarded + path).status_code for path in ("/v1/bundle", "/soup")] == [401, 401]
    assert [client().get(guarded + path, headers=key).status_code for path in ("/v1/bundle", "/soup")] == [200, 404]


@pytest.mark.parametrize("key", KEYS)
def test_any_of_the_keys_opens_as_bearer_as_header_and_as_a_browsers_password(guarded: str, key: str) -> None:
    url = f"{guarded}/v1/bundle"
    for headers in (
        {b"Authorization": b"Bearer " + key.encode()},
        {b"authorization": b"bearer  " + key.encode()},
        {b"X-API-Key": key.encode()},
    ):
        assert client().get(url, headers=headers).status_code == 200  # type: ignore[arg-type]
    assert client().get(url, auth=("anybody", key)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "soup-of-the-day"},
        {"Authorization": "Bearer soup-of-the-da"},
        {"Authorization": "Bearer soup-of-the-dayy"},
        {"Authorization": "Bearer soup-of-the-day, clé-æ".encode()},
        {"Authorization": "Bearer SOUP-OF-THE-DAY"},
        {"Authorization": "Basic soup-of-the-day"},
        {"Authorization": "Basic !!!"},
        {"X-API-Key": ""},
        {"X-API-Key": "x" * 8_000},
        {"Cookie": "key=soup-of-the-day"},
    ],
)
def test_what_is_no_key_does_not_open(guarded: str, headers: dict[str, str]) -> None:
    reply = client().post(f"{guarded}/v1/classify", json={"inputs": "soup"}, headers=headers)
    assert reply.status_code == 401
    assert reply.json()["error"]["kind"] == "unauthorized"
    assert reply.headers["WWW-Authenticate"] == "Bearer"


def test_a_browser_is_asked_in_its_own_way(guarded: str) -> None:
    reply = client().get(f"{guarded}/docs", headers={"Accept": "text/html"})
    assert reply.headers["WWW-Authenticate"].startswith("Basic ")


def test_a_refused_caller_is_told_in_the_protocols_shape(guarded: str) -> None:
    output = {
        path: client().post(guarded + path, json={}).json()
        for path in ("/v1/systemone", "/predict", "/v2/models/x/infer")
    }
    assert output["/v1/systemone"]["detail"]["error_type"] == "authentication_error"
    assert output["/predict"]["error_type"] == "Validation"
    assert "API key" in output["/v2/models/x/infer"]["error"]


def test_comparing_looks_at_every_key_and_no_further_than_a_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = read_keys({API_KEYS: "first,second,third"})
    looked: list[int] = []

    def noted(digest: bytes, other: bytes) -> bool:
        looked.append(len(digest) + len(other))
        return digest == other

    monkeypatch.setattr("serving.http.access.hmac.compare_digest", noted)
    assert keys.accepts(b"first")
    assert not keys.accepts(b"f" * 100_000)
    assert looked == [64] * 6


@pytest.mark.parametrize("value", ["", " ", ",", "soup,,salt", "soup,"])
def test_a_variable_that_names_an_empty_key_stops_the_start(value: str) -> None:
    with pytest.raises(ConfigError, match="an empty key; expected keys separated by commas"):
        read_keys({API_KEYS: value})
    assert not read_keys({})
    assert read_keys({API_KEYS: "soup"}) != Keys()
