"""What the service refuses: told in the words of each protocol, with the right status, and no text in the log."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from serving.errors import (
    DeadlineError,
    EngineDownError,
    ItemError,
    OverloadedError,
    ServingError,
    StoppingError,
    TooLargeError,
    UnanswerableError,
)
from serving.types import Answer
from tests.serving.http_requests import DIALECTS, client
from tests.serving.scripted import Scripted, at_once, sure_of
from tests.serving.threaded import served

SECRET = "my password is soup"
ERRORS: dict[str, ServingError] = {
    "too_large": TooLargeError("too long", item=0),
    "unanswerable": UnanswerableError("no answer"),
    "overloaded": OverloadedError("busy", retry_after_s=2.2),
    "item_failed": ItemError("this text alone", item=0),
    "engine_down": EngineDownError("dead", retry_after_s=0.2),
    "stopping": StoppingError("draining"),
    "deadline_passed": DeadlineError("queue", 0.25),
}


async def _page(request: Request) -> Response:
    raise RuntimeError(SECRET)


@pytest.fixture(scope="module")
def scripted(bundle_dir: Path) -> Iterator[tuple[str, Scripted]]:
    service = Scripted(bundle_dir, at_once)
    with served(service, extra_routes=[Route("/page", _page)]) as url:
        yield url, service


def raising(error: Exception) -> Any:
    async def act(text: str) -> Answer | ItemError:
        raise error

    return act


def kind_in(protocol: str, body: Any) -> str:
    """Return what a protocol's error body says about the kind, however it says it."""
    if protocol == "native":
        return str(body["error"]["kind"])
    if protocol == "decisions":
        return str(body["error"]["code"])
    if protocol == "tei":
        return str(body["error_type"])
    if protocol == "systemone":
        detail = body["detail"]
        return str(detail[0]["type"] if isinstance(detail, list) else detail["error_type"])
    return str(body["error"])


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("protocol", DIALECTS)
def test_each_refusal_has_its_status_and_the_protocols_own_shape(
    scripted: tuple[str, Scripted], protocol: str, kind: str
) -> None:
    url, service = scripted
    dialect, error = DIALECTS[protocol], ERRORS[kind]
    service.act = raising(error)
    reply = client().post(url + dialect.path, json=dialect.body(["soup"]))
    assert reply.status_code == error.status
    output = {
        "native": kind,
        "decisions": kind,
        "oip": str(error),
        "systemone": {"overloaded": "rate_limit_error"}.get(kind, kind),
        "tei": {
            "overloaded": "Overloaded",
            "engine_down": "Unhealthy",
            "stopping": "Unhealthy",
            "item_failed": "Backend",
            "deadline_passed": "Overloaded",
        }.get(kind, "Validation"),
    }
    assert kind_in(protocol, reply.json()) == output[protocol]
    assert str(error) in reply.text
    assert ("Retry-After" in reply.headers) == (error.status in (429, 503))
    if kind == "overloaded":
        assert reply.headers["Retry-After"] == "3"


@pytest.mark.parametrize("protocol", DIALECTS)
def test_a_mistake_of_ours_is_a_500_in_the_protocols_shape_and_the_log_has_no_text(
    scripted: tuple[str, Scripted], protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    url, service = scripted
    dialect = DIALECTS[protocol]
    service.act = raising(RuntimeError(SECRET))
    with caplog.at_level(logging.DEBUG):
        reply = client().post(url + dialect.path, json=dialect.body([SECRET]), headers={"X-Request-Id": "abc-1"})
    assert reply.status_code == 500
    assert "abc-1" in reply.text
    assert SECRET not in reply.text + caplog.text
    assert "request abc-1" in caplog.text
    assert "RuntimeError" in caplog.text


def test_a_page_that_fails_is_a_500_too(scripted: tuple[str, Scripted]) -> None:
    reply = client().get(f"{scripted[0]}/page")
    assert (reply.status_code, reply.json()["error"]["kind"]) == (500, "internal")


def test_one_text_that_fails_leaves_its_neighbours_answered(scripted: tuple[str, Scripted]) -> None:
    url, service = scripted

    async def act(text: str) -> Answer | ItemError:
        return ItemError("the engine fails on it") if text == "poison" else sure_of("bad")

    service.act = act
    texts = ["soup"] * 31
    texts.insert(7, "poison")
    reply = client().post(f"{url}/v1/classify", json={"inputs": texts}).json()
    assert [at for at, answer in enumerate(reply["answers"]) if answer is None] == [7]
    assert [(item["item"], item["kind"]) for item in reply["failed"]] == [(7, "item_failed")]
    alone = client().post(f"{url}/v1/classify", json={"inputs": ["poison"]})
    assert (alone.status_code, alone.json()["error"]["kind"]) == (500, "item_failed")


def test_an_abstention_is_no_label_anywhere(scripted: tuple[str, Scripted]) -> None:
    url, service = scripted

    async def act(text: str) -> Answer | ItemError:
        return sure_of("bad", status="abstained")

    service.act = act
    by_name = {
        name: client().post(url + dialect.path, json=dialect.body(["soup"])).json()
        for name, dialect in DIALECTS.items()
        if name != "systemone"
    }
    assert by_name["native"]["answers"][0]["label"] is None
    assert by_name["oip"]["outputs"][0]["data"] == [""]
    assert by_name["decisions"]["answers"] == [{"type": "refusal", "name": None}]
    reply = client().post(f"{url}/v1/systemone", json=DIALECTS["systemone"].body(["soup"]))
    assert reply.status_code == 422
    assert "abstains" in reply.text


def test_the_stages_and_the_request_are_named_in_every_reply(scripted: tuple[str, Scripted]) -> None:
    url, service = scripted
    service.act = at_once
    reply = client().post(f"{url}/v1/classify", json={"inputs": "soup"}, headers={"X-Request-Id": "order-66"})
    stages = dict(part.split(";dur=") for part in reply.headers["Server-Timing"].split(", "))
    assert [float(stages[name]) for name in ("tokenise", "queue", "inference", "escalation")] == [1, 2, 3, 4]
    assert float(stages["total"]) > 0
    assert reply.headers["X-Request-Id"] == "order-66"
    new = {client().get(f"{url}/livez", headers={"X-Request-Id": "a b"}).headers["X-Request-Id"] for _ in range(3)}
    assert len(new) == 3
    assert "a b" not in new


def test_the_deadline_comes_from_the_header_or_the_body_and_the_nearer_one_counts(
    scripted: tuple[str, Scripted],
) -> None:
    url, service = scripted
    service.act = at_once
    header = {"X-Request-Timeout-Ms": "500"}
    for body, headers in (({}, {}), ({}, header), ({"timeout_ms": 250}, header), ({"timeout_ms": 750}, header)):
        client().post(f"{url}/v1/classify", json={"inputs": "soup"} | body, headers=headers)
    client().post(f"{url}/v1/classify", json={"inputs": "soup", "timeout_ms": 20_000})
    assert service.deadlines[-5:] == [10.0, 0.5, 0.25, 0.5, 20.0]


@pytest.mark.parametrize("value", ["0", "-5", "nan", "inf", "1e3", "١٢", "", "5 ms", "120001", "9" * 30])
def test_a_timeout_that_cannot_be_is_refused(scripted: tuple[str, Scripted], value: str) -> None:
    url, service = scripted
    asked = service.asked
    headers = {"X-Request-Timeout-Ms": value.encode()}
    reply = client().post(f"{url}/v1/classify", json={"inputs": "soup"}, headers=headers)  # type: ignore[arg-type]
    assert reply.status_code == 400
    assert service.asked == asked


def test_only_readiness_hears_that_the_service_is_not_ready(scripted: tuple[str, Scripted]) -> None:
    url, service = scripted
    try:
        service.ready = False
        paths = ("/livez", "/v2/health/live", "/readyz", "/healthz", "/health", "/v2/health/ready")
        assert [client().get(url + path).status_code for path in paths] == [200, 200, 503, 503, 503, 503]
        assert client().get(f"{url}/v2/models/dishes/ready").status_code == 503
    finally:
        service.ready = True
    assert client().get(f"{url}/readyz").json() == {"ready": True}
