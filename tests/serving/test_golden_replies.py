"""What clients of each protocol were answered by an earlier version, they are answered by this one."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.protocols.all import PROTOCOLS
from serving.service import ClassifierService
from serving.settings import Settings, SwapSettings
from tests.serving.live_service import NullObserver
from tests.serving.threaded import served

GOLDEN = Path(__file__).parent.parent / "golden"
BUNDLE = GOLDEN / "bundle-format-2"
TOLERANCE = 1e-3
"""CPUs round differently."""
CHANGING = {"request_id", "version", "extensions"}
"""Fields of which only the type is held."""

TEXTS = ["The soup was wonderful.", "Cold, late and salty."]
CHOICE = [{"value": value} for value in ("plain", "bad", "good")]
EXCHANGES: dict[str, list[tuple[str, str, Any]]] = {
    "native": [
        ("POST", "/v1/classify", {"inputs": TEXTS[0]}),
        ("POST", "/v1/classify", {"inputs": TEXTS, "top_k": 2, "threshold": 1.0}),
        ("POST", "/v1/classify", {"inputs": [""]}),
        ("POST", "/v1/classify", {"input": TEXTS}),
        ("GET", "/v1/bundle", None),
        ("POST", "/v1/bundle", {"folder": "/nowhere"}),
        ("GET", "/v1/nothing", None),
    ],
    "decisions": [
        (
            "POST",
            "/v1/decisions",
            {
                "model": "dishes",
                "input": [{"type": "message", "role": "user", "content": TEXTS[1]}],
                "questions": [
                    {"type": "choice", "instructions": "How was it?", "choices": CHOICE, "name": "taste"},
                    {"type": "score", "instructions": "?", "levels": [{"label": v["value"]} for v in CHOICE]},
                ],
            },
        ),
        (
            "POST",
            "/v1/decisions",
            {
                "model": "dishes",
                "input": TEXTS[0],
                "questions": [{"type": "predicate", "instructions": "Was it good?"}],
            },
        ),
        ("GET", "/v1/models", None),
    ],
    "system one": [
        (
            "POST",
            "/v1/systemone",
            {
                "state": TEXTS[0],
                "questions": {
                    "a": {"type": "choice", "criteria": {"bad": None, "good": None, "plain": None}},
                    "b": {"type": "score", "criteria": ["bad", "plain", "good"]},
                },
            },
        ),
        ("POST", "/v1/systemone", {"state": TEXTS[0], "questions": {"a": {"type": "noul"}}}),
        ("POST", "/v1/systemone", {"state": TEXTS[0], "questions": {}}),
    ],
    "open inference protocol": [
        ("GET", "/v2", None),
        ("GET", "/v2/health/live", None),
        ("GET", "/v2/models/dishes", None),
        ("GET", "/v2/models/soup", None),
        (
            "POST",
            "/v2/models/dishes/infer",
            {"id": "7", "inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": TEXTS}]},
        ),
    ],
    "text-embeddings-inference": [
        ("POST", "/predict", {"inputs": TEXTS[0]}),
        ("POST", "/predict", {"inputs": [[text] for text in TEXTS]}),
        ("POST", "/predict", {"inputs": TEXTS}),
        ("GET", "/info", None),
    ],
    "probes": [("GET", "/livez", None), ("GET", "/readyz", None), ("GET", "/healthz", None)],
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    settings = Settings(swap=SwapSettings(over_http="from_this_machine"))
    with served(ClassifierService(BUNDLE, settings, NullObserver()), settings) as url:
        yield url


def check_same(reply: Any, golden: Any, where: str = "reply") -> None:
    """The same fields in the same order, others at the end, equal strings, and numbers within the tolerance."""
    if where.rsplit(".", 1)[-1] in CHANGING or where.endswith("message"):  # sentences may get better
        assert type(reply) is type(golden), where
    elif isinstance(golden, dict):
        assert isinstance(reply, dict), where
        assert list(reply)[: len(golden)] == list(golden), where
        for name in golden:
            check_same(reply[name], golden[name], f"{where}.{name}")
    elif isinstance(golden, list):
        assert isinstance(reply, list), where
        assert len(reply) == len(golden), where
        for at, (a, b) in enumerate(zip(reply, golden, strict=True)):
            check_same(a, b, f"{where}[{at}]")
    elif isinstance(golden, float):
        assert reply == pytest.approx(golden, abs=TOLERANCE), where
    else:
        assert reply == golden, where


@pytest.mark.parametrize("protocol", EXCHANGES)
def test_the_replies_of_a_protocol_are_those_of_before(url: str, protocol: str) -> None:
    golden = json.loads((GOLDEN / "wire" / f"{protocol.replace(' ', '-')}.json").read_text())
    assert len(golden) == len(EXCHANGES[protocol])
    for (method, path, body), before in zip(EXCHANGES[protocol], golden, strict=True):
        response = httpx.request(method, url + path, json=body)
        assert response.status_code == before["status"], (path, response.text)
        if response.status_code == 200:
            check_same(response.json(), before["reply"])
        else:
            assert _shape(response.json()) == _shape(before["reply"]), path


def _shape(value: Any) -> Any:
    """The fields of an error and the types of their values: its sentence may get better."""
    if isinstance(value, dict):
        return {name: _shape(field) for name, field in value.items()}
    return [_shape(item) for item in value] if isinstance(value, list) else type(value).__name__


def test_every_protocol_has_golden_replies() -> None:
    assert set(EXCHANGES) == {protocol.name for protocol in PROTOCOLS}
