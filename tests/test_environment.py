"""What the environment says about connections is followed where a setting says so, and named; nothing goes elsewhere."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from hybrid.client import AsyncClient, Client, ServerError
from hybrid.config import LLMConfig
from hybrid.errors import ConfigError, LLMError
from hybrid.llm import Reply, open_llm
from hybrid.llm.backends import check_llm
from hybrid.llm.client.connection import CLAUDE_API, CUSTOM_HEADERS
from hybrid.llm.client.messages import Messages
from hybrid.llm.client.retry import Retry
from hybrid.llm.tasks.label import label_request
from tests.messages_server import Act, MessagesServer, label, status
from tests.serving.escalation_fixtures import RecordingObserver, escalated, opened

REQUEST = label_request("decide", "The soup.", ("bad", "good"), LLMConfig(max_tokens=60))
FAST = Retry(tries=2, first_wait_s=0.01)
HEADERS = "x-tenant: other\nauthorization: Bearer stolen\nuser-agent: me"


@pytest.fixture(autouse=True)
def _claudes_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-mine")


def asked(config: LLMConfig, said: list[str]) -> Any:
    return open_llm(config, role="teacher", say=said.append, retry=FAST)


def test_the_environment_redirects_nothing_unless_a_setting_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with MessagesServer(label("good")) as elsewhere:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", elsewhere.url)
        monkeypatch.setenv(CUSTOM_HEADERS, HEADERS)
        llm = asked(LLMConfig(model="claude-haiku-4-5"), said)
        assert str(llm.client.base_url).rstrip("/") == CLAUDE_API
        assert llm.where == "the Claude API"
    assert said == [
        "teacher: ANTHROPIC_BASE_URL and ANTHROPIC_CUSTOM_HEADERS of the environment are not followed: texts and key go to "
        f"{CLAUDE_API}; use_environment = true follows the environment"
    ]
    assert os.environ[CUSTOM_HEADERS] == HEADERS


def test_the_place_that_the_environment_names_is_asked_where_a_setting_says_so_and_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said: list[str] = []
    with MessagesServer(label("good"), status(401)) as gateway:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", gateway.url)
        monkeypatch.setenv(CUSTOM_HEADERS, "x-tenant: ours")
        config = LLMConfig(model="claude-haiku-4-5", use_environment=True)
        assert asked(config, said).ask(REQUEST).status == "ok"
        assert gateway.headers[0]["x-tenant"] == "ours"
        assert "sk-mine" in json.dumps(gateway.headers[0])
        with pytest.raises(LLMError, match=rf"^{gateway.url} \(ANTHROPIC_BASE_URL\): status 401"):
            asked(config, []).ask(REQUEST)
    line = f"teacher: texts and key go to {gateway.url}, which ANTHROPIC_BASE_URL names; the headers x-tenant of {CUSTOM_HEADERS} "
    assert said == [f"{line}are sent along"]


def test_without_such_variables_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_BASE_URL", CUSTOM_HEADERS):
        monkeypatch.delenv(name, raising=False)
    said: list[str] = []
    for use in (False, True):
        assert asked(LLMConfig(model="claude-haiku-4-5", use_environment=use), said).where == "the Claude API"
    assert said == []


def test_a_server_of_ones_own_gets_none_of_claudes_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CUSTOM_HEADERS, HEADERS)
    with MessagesServer(label("good")) as server:
        assert asked(LLMConfig(model="m", base_url=server.url), []).ask(REQUEST).status == "ok"
        assert "x-tenant" not in server.headers[0]
        assert "stolen" not in json.dumps(server.headers[0])
        assert "sk-mine" not in json.dumps(server.headers[0])
        assert server.headers[0]["user-agent"] != "me"
    with pytest.raises(ConfigError, match=r"teacher\.use_environment with base_url"):
        check_llm(LLMConfig(model="m", base_url="http://x", use_environment=True), "teacher")


def redirect(code: int, target: str) -> Act:
    return status(code, "moved", headers={"Location": target})


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_takes_neither_key_nor_text_elsewhere(code: int) -> None:
    with MessagesServer(label("good")) as elsewhere:
        target = elsewhere.url.replace("//", "//me:secret@") + "/v1/messages"
        with MessagesServer(redirect(code, target)) as server, pytest.raises(LLMError) as error:
            Messages("m", base_url=server.url, retry=FAST).ask(REQUEST)
        assert elsewhere.headers == []
        said = f"status {code} redirects to {elsewhere.url}/v1/messages; redirects are not followed"
        assert said in str(error.value)
        assert "secret" not in str(error.value)
        with MessagesServer(label("good"), redirect(code, target)) as server:
            llm = Messages("m", base_url=server.url, retry=FAST)
            replies: list[Reply] = [llm.ask(REQUEST), llm.ask(REQUEST)]
        assert [reply.status for reply in replies] == ["ok", "failed"]
        assert elsewhere.headers == []


def test_the_decoder_of_a_service_follows_no_redirect_and_no_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CUSTOM_HEADERS, HEADERS)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")

    async def escalations(url: str) -> list[str]:
        observer = RecordingObserver()
        handler = opened(tmp_path, url, observer)
        for i in range(2):
            await escalated(handler, f"Dish {i}.")
        await handler.close()
        return observer.outcomes

    with (
        MessagesServer(label("good")) as elsewhere,
        MessagesServer(label("bad"), redirect(307, f"{elsewhere.url}/v1/messages")) as server,
    ):
        assert asyncio.run(escalations(server.url)) == ["answered", "failed"]
        assert "stolen" not in json.dumps(server.headers)
        assert elsewhere.headers == []


PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1", "ALL_PROXY of the environment: a SOCKS proxy needs the package socksio"),
        ("https_proxy", "socks5h://me:secret@127.0.0.1:1", "https_proxy of the environment: a SOCKS proxy needs"),
        ("HTTPS_PROXY", "foo://me:secret@x", "HTTPS_PROXY of the environment: not a proxy"),
        ("HTTP_PROXY", "http://x:port", "HTTP_PROXY of the environment: not a proxy"),
        ("all_proxy", ":::", "all_proxy of the environment: not a proxy"),
        ("NO_PROXY", "[::bad", "NO_PROXY of the environment: not a proxy"),
        (
            "SSL_CERT_FILE",
            "/nowhere.pem",
            "SSL_CERT_FILE=/nowhere.pem of the environment: no certificates can be read there",
        ),
        ("SSL_CERT_FILE", "/dev/null", "SSL_CERT_FILE=/dev/null of the environment: no certificates can be read there"),
        ("SSL_CERT_FILE", "/", "SSL_CERT_FILE=/ of the environment: no certificates can be read there"),
    ],
)
def test_proxies_and_certificates_that_cannot_be_used_are_one_sentence(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in PROXY_VARIABLES:
        for spelled in (variable, variable.upper()):
            monkeypatch.delenv(spelled, raising=False)
    monkeypatch.setenv(name, value)
    with pytest.raises(LLMError) as error:
        Messages("m", base_url="http://127.0.0.1:1")
    assert str(error.value).startswith(said)
    assert "secret" not in str(error.value)
    assert "\n" not in str(error.value)

    for client in (Client, AsyncClient):
        with pytest.raises(ConfigError) as refusal:
            client("http://127.0.0.1:1")
        assert str(refusal.value).startswith(said)


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_the_client_of_the_service_follows_no_redirect(code: int) -> None:
    with MessagesServer(label("good")) as elsewhere:
        target = redirect(code, f"{elsewhere.url}/v1/messages")
        with MessagesServer(label("good")) as server:
            server.serve_other = target  # type: ignore[method-assign,assignment]
            with (
                Client(server.url, api_key="secret") as client,
                pytest.raises(ServerError, match="redirects elsewhere"),
            ):
                client.classify("The soup.")
            with pytest.raises(ServerError, match=f"status {code}: the service redirects elsewhere"):
                asyncio.run(classified(server.url))
        assert elsewhere.headers == []


async def classified(url: str) -> None:
    async with AsyncClient(url, api_key="secret") as client:
        await client.classify("The soup.")


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "http://", "http://x:port"])
def test_a_url_of_a_service_that_is_none_is_one_sentence(url: str) -> None:
    with pytest.raises(ConfigError, match="not the URL of a service"):
        Client(url)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://x", "http://", "http://x:port", "http://[bad", "x"])
def test_a_base_url_that_is_none_is_one_sentence(url: str) -> None:
    with pytest.raises(LLMError, match=r"base_url = .*: not the URL of a server"):
        Messages("m", base_url=url)
