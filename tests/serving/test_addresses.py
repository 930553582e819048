"""At which addresses the service listens, and below which prefix it answers."""

import http.server
import json
import re
import socket
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hybrid.errors import ConfigError
from serving.http.app import build_app
from serving.page import files as page
from serving.server import listening
from serving.settings import Settings, read_settings
from tests.serving.http_requests import client, send
from tests.serving.scripted import Scripted, at_once
from tests.serving.threaded import in_thread, served

HAS_IPV6 = Path("/proc/net/if_inet6").exists() and Path("/proc/net/if_inet6").read_text() != ""
BODY = {"inputs": "soup"}


def reaches(family: int, address: str, port: int) -> bool:
    with socket.socket(family) as wire:
        wire.settimeout(10)
        return wire.connect_ex((address, port)) == 0


@pytest.mark.skipif(not HAS_IPV6, reason="needs IPv6")
@pytest.mark.parametrize("dual", [True, False])
def test_the_unspecified_address_of_ipv6_serves_both_families(dual: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not dual:
        monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    with listening(Settings(host="::", port=0)) as listeners:
        assert len(listeners) == (1 if dual else 2)
        port = listeners[0].getsockname()[1]
        assert reaches(socket.AF_INET6, "::1", port)
        assert reaches(socket.AF_INET, "127.0.0.1", port)


def test_a_name_is_served_at_all_of_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    places = [(socket.AF_INET, 1, 6, "", (address, 0)) for address in ("127.0.0.1", "127.0.0.2", "192.0.2.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: places)
    with listening(Settings(host="soup", port=0)) as listeners:
        port = listeners[0].getsockname()[1]
        assert [listener.getsockname() for listener in listeners] == [("127.0.0.1", port), ("127.0.0.2", port)]


def refuses(sentence: str, settings: Settings) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)), listening(settings):
        pass


def test_an_address_that_is_taken_or_not_of_this_machine_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refuses(f"127.0.0.1:{port}: cannot listen there", Settings(port=port))
    refuses("192.0.2.1:0: cannot listen there", Settings(host="192.0.2.1", port=0))


@pytest.mark.parametrize("prefix", ["soup", "/soup/", "/soup?a", "//"])
def test_a_prefix_is_one_or_more_parts_of_a_path(prefix: str) -> None:
    with pytest.raises(ConfigError, match="root_path"):
        read_settings(None, {"root_path": prefix})


@pytest.fixture(scope="module")
def scripted(bundle_dir: Path) -> Scripted:
    return Scripted(bundle_dir, at_once)


@pytest.fixture(scope="module")
def stripping_proxy(scripted: Scripted) -> Iterator[str]:
    """A proxy that serves the service below `/a/b/` and takes that off."""
    app = build_app(scripted, Settings(), page.routes())
    with in_thread(scripted, app) as url:

        class Proxy(http.server.BaseHTTPRequestHandler):
            def _pass_on(self) -> None:
                if not self.path.startswith("/a/b/"):
                    self.send_error(404)
                    return
                length = int(self.headers.get("content-length", 0))
                headers = {"content-type": self.headers.get("content-type", "")}
                reply = client().request(
                    self.command, url + self.path[4:], content=self.rfile.read(length), headers=headers
                )
                self.send_response(reply.status_code)
                for name in ("content-type", "content-length"):
                    self.send_header(name, reply.headers[name])
                self.end_headers()
                self.wfile.write(reply.content)

            def do_GET(self) -> None:
                self._pass_on()

            def do_POST(self) -> None:
                self._pass_on()

            def log_message(self, *words: object) -> None:
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as proxy:
            threading.Thread(target=proxy.serve_forever, args=(0.01,), daemon=True).start()
            yield f"http://127.0.0.1:{proxy.server_port}/a/b/"
            proxy.shutdown()


@pytest.fixture(scope="module")
def passing_proxy(scripted: Scripted) -> Iterator[str]:
    """The service behind a proxy that leaves the prefix in the path."""
    with served(scripted, Settings(root_path="/a/b"), extra_routes=page.routes()) as url:
        yield f"{url}/a/b/"


@pytest.mark.parametrize("kind", ["stripping_proxy", "passing_proxy"])
def test_everything_that_the_page_asks_for_lies_below_the_prefix(kind: str, request: pytest.FixtureRequest) -> None:
    base = httpx.URL(request.getfixturevalue(kind))
    index = client().get(base).text
    linked = [path for path in re.findall(r'(?:href|src)="([^"#]+)"', index) if not path.startswith("data:")]
    assert len(linked) == 5
    scripts = {
        name: client().get(base.join(f"page/{name}")).text for name in ("api.js", "page.js", "live.js", "try.js")
    }
    imported = [f"page/{path[2:]}" for text in scripts.values() for path in re.findall(r'from "(\./[^"]+)"', text)]
    asked = [path[1:] for text in scripts.values() for path in re.findall(r'ask\("(/[^"]+)"', text)]
    assert asked
    for path in {*linked, *imported, *asked} - {
        "metrics",
        "v1/watch",
        "v1/watch/reference",
    }:  # not of this test's service
        wanted = (405,) if path == "v1/classify" else (200,)
        assert client().get(base.join(path)).status_code in wanted, path
    assert client().post(base.join("v1/classify"), json=BODY).status_code == 200
    document = client().get(base.join("openapi.json")).json()
    assert base.join("openapi.json").join(document["servers"][0]["url"]) == base


def test_a_prefix_without_its_slash_leads_to_the_page_and_probes_need_none(passing_proxy: str) -> None:
    reply = client().get(passing_proxy.rstrip("/"), follow_redirects=False)
    assert (reply.status_code, reply.headers["location"]) == (307, "/a/b/")
    root = passing_proxy.removesuffix("/a/b/")
    assert client().get(f"{root}/livez").status_code == 200
    assert client().get(f"{root}/a/bc/livez").status_code == 404
    with urllib.request.urlopen(f"{root}/a/b/livez") as probe:
        assert json.load(probe)


@pytest.mark.parametrize("prefix", ["", "/a/b"])
def test_a_head_that_is_no_http_is_refused_in_the_format_of_the_route_below_the_prefix(
    passing_proxy: str, prefix: str
) -> None:
    server = passing_proxy.removesuffix("/a/b/")
    for path, detail_type in (("/v2/models/soup/infer", str), ("/v1/classify", dict)):
        reply = send(server, f"POST {prefix}{path} HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n".encode())
        detail = json.loads(reply.partition(b"\r\n\r\n")[2])["error"]
        assert isinstance(detail, detail_type), (path, detail)
