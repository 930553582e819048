"""What callers learn of a decoder that fails is a kind; what it said is for the operator, and passwords are for nobody."""

import asyncio
import io
import logging
from pathlib import Path
from typing import get_args

import pytest

from hybrid.client import Client, ClientConfig, UnreachableError
from hybrid.errors import LLMError
from hybrid.llm.client.messages import Messages
from hybrid.review.escalations import FILE, open_store, read_escalations
from hybrid.urls import hide_user_info
from serving.decoder.question import REASON_OF_FAILURE
from serving.errors import UnanswerableError
from serving.telemetry.logs import JsonFormatter, JsonLogs
from serving.types import REASONS, Deadline, NoLabelReason
from tests.messages_server import Act, MessagesServer, answer, label, raw, reset, status
from tests.serving.escalation_fixtures import after, escalated, opened

PASSWORD = "s3cret"
NEW_SERVER_WORDS = "the upstream http://cook:s3cret@10.0.0.5/v1 said no to The soup."
ACTS: dict[str, tuple[Act, NoLabelReason]] = {
    "400": (status(400, NEW_SERVER_WORDS), "text_refused"),
    "401": (status(401, NEW_SERVER_WORDS), "unusable"),
    "404": (status(404, NEW_SERVER_WORDS), "unusable"),
    "429": (status(429, NEW_SERVER_WORDS, headers={"Retry-After": "30"}), "overloaded"),
    "500": (status(500, NEW_SERVER_WORDS), "server_error"),
    "not JSON": (raw(f"<a href='{NEW_SERVER_WORDS}'>", "text/html"), "unreadable_answer"),
    "reset": (reset, "unreachable"),
    "silent": (after(1.5), "timed_out"),
    "another label": (label("excellent"), "unreadable_answer"),
    "no object": (answer(NEW_SERVER_WORDS), "unreadable_answer"),
    "declines": (answer("", stop_reason="refusal"), "declined"),
    "cut off": (answer('{"rationale": "It', stop_reason="max_tokens"), "cut_off"),
}


def with_password(url: str) -> str:
    return url.replace("://", f"://cook:{PASSWORD}@")


def asked(
    tmp_path: Path, url: str, policy: str = "local_label_flagged", *, deadline_ms: float = 60_000
) -> tuple[str, str]:
    """Ask about a text; returns the reason and everything that was logged, down to DEBUG."""
    stream = io.StringIO()
    logs = JsonLogs(stream, level=logging.DEBUG)

    async def run() -> str:
        handler = opened(tmp_path, with_password(url), retries=0, deadline_ms=deadline_ms, on_failure=policy)
        try:
            return (await escalated(handler)).reason
        except UnanswerableError as error:
            with pytest.raises(UnanswerableError) as other:
                await handler.decide("The soup.", ("hot", "cold"), "", Deadline.after(20))
            return f"{error}\n{other.value}"
        finally:
            await handler.close()

    try:
        return asyncio.run(run()), stream.getvalue()
    finally:
        logs.close()


@pytest.mark.parametrize("name", ACTS)
def test_a_caller_learns_the_kind_of_failure_and_the_operator_the_rest(name: str, tmp_path: Path) -> None:
    act, expected = ACTS[name]
    with MessagesServer(act) as server:
        deadline_ms = 400 if name == "silent" else 60_000
        reason, logged = asked(tmp_path, server.url, deadline_ms=deadline_ms)
        words, more = asked(tmp_path, server.url, "error", deadline_ms=deadline_ms)
        for line in words.splitlines():
            assert line.endswith(f"the decoder gave no answer: {REASONS[expected]}")
    assert reason == expected
    kept = [row.reason for row in read_escalations(open_store(str(tmp_path / FILE)))]
    assert len(kept) == 2
    assert all(kept)
    for text in (words, logged, more, *kept):
        assert PASSWORD not in text
    if name in ("400", "500"):
        assert all("the upstream http://10.0.0.5/v1 said no" in reason for reason in kept)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://no.such.host.invalid:80"])
def test_a_server_that_is_not_there_is_unreachable(url: str, tmp_path: Path) -> None:
    reason, logged = asked(tmp_path, url)
    assert reason == "unreachable"
    [kept] = read_escalations(open_store(str(tmp_path / FILE)))
    assert url.partition("://")[2] in kept.reason, "the operator learns which server"
    assert PASSWORD not in kept.reason + logged


def test_a_run_that_stops_names_the_server_without_its_password() -> None:
    from hybrid.llm.request import Request

    request = Request(system="s", user="u", schema={}, max_tokens=5)
    with MessagesServer(status(401, NEW_SERVER_WORDS)) as server, pytest.raises(LLMError) as stopped:
        Messages("judge", base_url=with_password(server.url)).ask(request)
    assert server.url in str(stopped.value)
    assert PASSWORD not in str(stopped.value)
    assert stopped.value.http_status == 401


def test_the_http_clients_of_the_process_write_no_line_for_a_call(tmp_path: Path) -> None:
    stream = io.StringIO()
    logs = JsonLogs(stream)

    async def run(url: str) -> None:
        handler = opened(tmp_path, with_password(url))
        assert (await escalated(handler)).escalation == "answered"
        await handler.close()

    with MessagesServer(label("bad")) as server:
        asyncio.run(run(server.url))
    logs.close()
    assert stream.getvalue() == ""


def test_the_loggers_are_as_before_once_the_logs_are_closed() -> None:
    logger = logging.getLogger("httpx2")
    before = logger.level
    logs = JsonLogs(io.StringIO())
    assert logger.level == logging.WARNING
    logs.close()
    assert logger.level == before


def test_a_client_of_the_service_names_its_url_without_the_password() -> None:
    with (
        Client(f"http://cook:{PASSWORD}@127.0.0.1:9", config=ClientConfig(retries=0)) as service,
        pytest.raises(UnreachableError, match=r"http://127\.0\.0\.1:9") as refused,
    ):
        service.classify("soup")
    assert PASSWORD not in str(refused.value)


def test_every_log_line_loses_the_user_info_of_its_urls_and_nothing_else() -> None:
    record = logging.makeLogRecord({"msg": 'see http://a:b@c/d and "x@y"', "levelno": 20, "levelname": "INFO"})
    line = JsonFormatter().format(record)
    assert "see http://c/d and" in line
    assert "x@y" in line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://cook:s3cret@here:1/v1", "http://here:1/v1"),
        ("http://cook@here", "http://here"),
        ("http://cook:p@ss@here/a@b", "http://here/a@b"),
        ("postgresql+psycopg://u:p@db/x and https://:t@y", "postgresql+psycopg://db/x and https://y"),
        ("http://here/path?mail=a@b", "http://here/path?mail=a@b"),
        ("http://here#a@b", "http://here#a@b"),
        ("a@b", "a@b"),
        ('{"url":"http://here","mail":"a@b"}', '{"url":"http://here","mail":"a@b"}'),
        ("", ""),
    ],
)
def test_user_info_is_hidden_and_the_rest_stays(text: str, shown: str) -> None:
    assert hide_user_info(text) == shown


def test_the_tables_of_reasons_are_complete() -> None:
    from hybrid.llm.request import FailureKind

    assert set(REASONS) == set(get_args(NoLabelReason))
    assert set(REASON_OF_FAILURE) == set(FailureKind)
