"""Whatever comes as a text or as JSON: an answer or a refusal that says why, in every protocol, alone and in a batch."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

import hybrid
from tests.serving.http_requests import DIALECTS, Dialect, client

GOOD = "The soup was awful and stale."
LONGEST = 1_000_000
"""Characters of a text, as `plain_server` is set."""
MALFORMED, EMPTY, TOO_LONG = "malformed", 422, 413

TEXTS: dict[str, tuple[Any, Any]] = {
    "empty": ("", EMPTY),
    "white space": (" \t\n\r\u00a0\u2003", EMPTY),
    "as long as may be": ("x" * LONGEST, 200),
    "one longer": ("x" * (LONGEST + 1), TOO_LONG),
    "many words": ("soup " * 5000, 200),
    "NUL": ("\0", 200),
    "NUL inside": ("The soup\0was stale.", 200),
    "control characters": ("".join(map(chr, range(1, 32))) + "\x7f\x85", 200),
    "byte order mark": ("\ufeff", 200),
    "zero width": ("\u200b\u200d\u2060", 200),
    "right to left": ("\u202eمرحبا بالعالم\u202c", 200),
    "emoji with joiners": ("👩‍👩‍👧‍👦🏳️‍🌈" * 50, 200),
    "decomposed": ("Cafe\u0301 " * 20, 200),
    "beyond the first plane": ("\U0010ffff\U0001f600𝕳", 200),
    "noncharacters": ("\uffff\ufffe\ufdd0", 200),
    "many combining marks": ("a" + "\u0301" * 5000, 200),
    "special tokens": ("[CLS] [SEP] [PAD] [MASK] [UNK] </s> <s> <|endoftext|>", 200),
    "only padding": ("[PAD][PAD][PAD]", 200),
    "unknown script": ("ᚠᛇᚻ᛫ᛒᛦᚦ", 200),
    "markup": ("<script>alert(1)</script>{{7*7}}${7*7}';DROP TABLE--", 200),
    "half a surrogate pair": ("\ud800", MALFORMED),
    "the other half": ("so\udc00up", MALFORMED),
    "halves the wrong way round": ("\udc00\ud800", MALFORMED),
    "a number": (7, MALFORMED),
    "a fraction": (0.5, MALFORMED),
    "null": (None, MALFORMED),
    "a boolean": (True, MALFORMED),
}
SHAPES: dict[str, Any] = {"an object": {"text": GOOD}, "nested lists": [[[GOOD]]], "a list of nothing": []}


def ask(url: str, dialect: Dialect, texts: list[Any]) -> httpx.Response:
    """Send the texts with every odd character escaped, so that JSON can say what UTF-8 cannot."""
    content = json.dumps(dialect.body(texts)).encode()
    return client().post(url + dialect.path, content=content, headers={"Content-Type": "application/json"})


def wanted(dialect: Dialect, status: Any) -> int:
    return dialect.malformed if status == MALFORMED else int(status)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("protocol", DIALECTS)
def test_a_text_alone(plain_server: str, protocol: str, name: str) -> None:
    dialect, (text, status) = DIALECTS[protocol], TEXTS[name]
    reply = ask(plain_server, dialect, [text])
    assert reply.status_code == wanted(dialect, status), reply.text[:300]
    assert reply.json()


@pytest.mark.parametrize("name", [name for name in TEXTS if name not in ("as long as may be", "one longer")])
@pytest.mark.parametrize("protocol", [name for name, dialect in DIALECTS.items() if dialect.batches])
def test_a_text_among_others(plain_server: str, protocol: str, name: str) -> None:
    dialect, (text, status) = DIALECTS[protocol], TEXTS[name]
    reply = ask(plain_server, dialect, [GOOD, text, GOOD])
    assert reply.status_code == wanted(dialect, status), reply.text[:300]
    if status == EMPTY:
        assert "text 1 is empty" in reply.text


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("protocol", DIALECTS)
def test_what_is_no_text_is_refused_or_read_as_the_protocol_says(plain_server: str, protocol: str, name: str) -> None:
    dialect = DIALECTS[protocol]
    reply = ask(plain_server, dialect, [SHAPES[name]])
    if protocol == "systemone":  # its state may be any JSON, which is read as text
        assert reply.status_code == 200
    else:
        assert reply.status_code == dialect.malformed, reply.text[:300]


@pytest.mark.parametrize("protocol", [name for name, dialect in DIALECTS.items() if dialect.batches])
def test_no_text_and_one_too_many_are_refused_and_the_limit_is_not(plain_server: str, protocol: str) -> None:
    dialect = DIALECTS[protocol]
    assert ask(plain_server, dialect, []).status_code == 400
    assert ask(plain_server, dialect, ["soup"] * 256).status_code == 200
    over = ask(plain_server, dialect, ["soup"] * 257)
    assert over.status_code == 413
    assert "expected at most 256 texts, got 257" in over.text


def test_the_neighbours_of_odd_texts_are_answered_as_if_alone(plain_server: str, bundle_dir: Path) -> None:
    odd = [text for text, status in TEXTS.values() if status == 200 and len(text) < 10_000]
    texts = [item for text in odd for item in (GOOD, text)]
    answers = ask(plain_server, DIALECTS["native"], texts).json()["answers"]
    alone = hybrid.load(bundle_dir).classify([GOOD])[0]
    assert len(answers) == len(texts)
    assert all(answer["probs"] == pytest.approx(alone.probs, abs=1e-5) for answer in answers[::2])


def _deep(n: int) -> bytes:
    return b"[" * n + b"]" * n


BODIES: dict[str, bytes] = {
    "nothing": b"",
    "white space": b"  \n",
    "not JSON": b"soup",
    "cut off": b'{"inputs": "soup"',
    "single quotes": b"{'inputs': 'soup'}",
    "a comma too many": b'{"inputs": "soup",}',
    "a comment": b'{"inputs": "soup"} // good',
    "two documents": b'{"inputs": "soup"}{"inputs": "soup"}',
    "a byte order mark": b'\xef\xbb\xbf{"inputs": "soup"}',
    "UTF-16": '{"inputs": "soup"}'.encode("utf-16"),
    "latin-1": '{"inputs": "caf\xe9"}'.encode("latin-1"),
    "overlong UTF-8": b'{"inputs": "\xc0\xaf"}',
    "a raw surrogate": b'{"inputs": "\xed\xa0\x80"}',
    "a raw control character": b'{"inputs": "so\x01up"}',
    "a bad escape": b'{"inputs": "so\\xup"}',
    "NaN": b'{"inputs": NaN, "state": NaN}',
    "Infinity": b'{"inputs": "soup", "threshold": Infinity, "state": -Infinity}',
    "null": b"null",
    "a list": b'["soup"]',
    "a string": b'"soup"',
    "a number": b"7",
    "an empty object": b"{}",
    "deep lists": _deep(100_000),
    "deep lists in a field": b'{"inputs": ' + _deep(100_000) + b', "state": ' + _deep(100_000) + b"}",
    "deep objects": b'{"inputs": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001,
    "NUL bytes": b"\0" * 100,
    "gzip that nobody declared": b"\x1f\x8b\x08\x00" + b"\0" * 20,
    "an endless number": b'{"state": "a", "inputs": ' + b"9" * 10_000 + b', "questions": 1}',
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("protocol", DIALECTS)
def test_a_body_that_is_not_what_the_route_reads(plain_server: str, protocol: str, name: str) -> None:
    dialect = DIALECTS[protocol]
    json_type = {"Content-Type": "application/json"}
    reply = client().post(plain_server + dialect.path, content=BODIES[name], headers=json_type)
    assert reply.status_code == dialect.malformed, reply.text[:300]
    assert "the body" in reply.text


FIELDS: list[tuple[dict[str, Any], int, str]] = [
    ({"inputs": GOOD, "soup": 1}, 400, "unknown field `soup`"),
    ({"inputs": GOOD, "top_k": 0}, 400, ">= 1"),
    ({"inputs": GOOD, "top_k": 10**30}, 400, "top_k"),
    ({"inputs": GOOD, "top_k": 1.5}, 400, "top_k"),
    ({"inputs": GOOD, "top_k": "1"}, 400, "top_k"),
    ({"inputs": GOOD, "truncate": "middle"}, 400, "middle"),
    ({"inputs": GOOD, "truncate": True}, 400, "truncate"),
    ({"inputs": GOOD, "escalate": "maybe"}, 400, "maybe"),
    ({"inputs": GOOD, "threshold": 1.1}, 400, "threshold"),
    ({"inputs": GOOD, "timeout_ms": 0}, 400, "timeout_ms"),
    ({"inputs": GOOD, "timeout_ms": 1e9}, 400, "at most 120000"),
    ({"inputs": GOOD, "top_k": 2}, 200, "label"),
]


@pytest.mark.parametrize(("body", "status", "message"), FIELDS)
def test_a_field_that_cannot_be_is_named(plain_server: str, body: dict[str, Any], status: int, message: str) -> None:
    reply = client().post(f"{plain_server}/v1/classify", json=body)
    assert reply.status_code == status
    assert message in reply.text


def test_of_equal_keys_the_last_one_counts(plain_server: str) -> None:
    content = b'{"inputs": "soup", "top_k": 3, "top_k": 1}'
    reply = client().post(f"{plain_server}/v1/classify", content=content, headers={"Content-Type": "application/json"})
    assert len(reply.json()["answers"][0]["probs"]) == 1


def _oip(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [GOOD]} | changes]}


CHOICE = {"type": "choice", "instructions": "?", "choices": [{"value": "bad"}, {"value": "good"}, {"value": "plain"}]}


def _asked(**changes: Any) -> dict[str, Any]:
    return {"model": "dishes", "input": GOOD, "questions": [CHOICE]} | changes


def _many(n: int) -> list[dict[str, str]]:
    return [{"value": str(number)} for number in range(n)]


SPECIAL: list[tuple[str, dict[str, Any], int]] = [
    ("/v2/models/dishes/infer", _oip(), 200),
    ("/v2/models/dishes/infer", _oip(shape=[1, 1], data=[[GOOD]]), 200),
    ("/v2/models/soup/infer", _oip(), 404),
    ("/v2/models/dishes/versions/7/infer", _oip(), 404),
    ("/v2/models/%00/infer", _oip(), 404),
    ("/v2/models/..%2f..%2fetc/infer", _oip(), 404),
    ("/v2/models/dishes/infer", _oip(shape=[2]), 400),
    ("/v2/models/dishes/infer", _oip(shape=[-1]), 400),
    ("/v2/models/dishes/infer", _oip(shape=[2**62, 2**62]), 400),
    ("/v2/models/dishes/infer", _oip(shape=[]), 400),
    ("/v2/models/dishes/infer", _oip(datatype="FP32"), 400),
    ("/v2/models/dishes/infer", _oip(data=[GOOD, [GOOD]], shape=[2]), 400),
    ("/v2/models/dishes/infer", _oip(data=[[GOOD, GOOD]], shape=[1, 2]), 400),
    ("/v2/models/dishes/infer", {"inputs": []}, 400),
    ("/v2/models/dishes/infer", _oip() | {"outputs": [{"name": "soup"}]}, 400),
    ("/v2/models/dishes/infer", _oip() | {"parameters": {"truncate": "no"}}, 400),
    ("/predict", {"inputs": [GOOD]}, 200),
    ("/predict", {"inputs": [GOOD, GOOD]}, 422),
    ("/predict", {"inputs": [GOOD, [GOOD]]}, 400),
    ("/predict", {"inputs": [[GOOD, GOOD]]}, 422),
    ("/predict", {"inputs": GOOD, "raw_scores": True}, 422),
    ("/predict", {"inputs": "soup " * 500, "truncate": False}, 422),
    ("/predict", {"inputs": "soup " * 500, "truncate": True}, 200),
    ("/v1/decisions", _asked(), 200),
    ("/v1/decisions", _asked(model="soup"), 404),
    ("/v1/decisions", _asked(questions=[]), 400),
    ("/v1/decisions", _asked(questions=[CHOICE] * 401), 400),
    ("/v1/decisions", _asked(questions=[CHOICE] * 400), 200),
    ("/v1/decisions", _asked(questions=[CHOICE | {"type": "soup"}]), 400),
    ("/v1/decisions", _asked(questions=[CHOICE | {"choices": _many(1)}]), 400),
    ("/v1/decisions", _asked(questions=[CHOICE | {"choices": _many(256)}]), 400),
    ("/v1/decisions", _asked(questions=[CHOICE | {"choices": _many(255)}]), 422),
    ("/v1/decisions", _asked(questions=[CHOICE | {"choices": [{"value": True}, {"value": "true"}]}]), 400),
    ("/v1/decisions", _asked(questions=[CHOICE | {"choices": [{"value": "a"}, {"value": "a"}]}]), 400),
    ("/v1/decisions", _asked(input=[]), 400),
    ("/v1/decisions", _asked(input=[{"type": "soup"}]), 400),
    ("/v1/decisions", _asked(input=[{"type": ["message"]}]), 400),
    ("/v1/decisions", _asked(input=[{"role": "king", "content": GOOD}]), 400),
    ("/v1/decisions", _asked(input=[{"role": "user", "content": [{"type": "input_text"}]}]), 400),
    ("/v1/decisions", _asked(input=[{"type": "function_call_output", "call_id": "1", "output": GOOD}]), 400),
    ("/v1/systemone", {"state": GOOD, "questions": {}}, 422),
    ("/v1/systemone", {"state": None, "questions": {"q": {"type": "noul", "instructions": "?"}}}, 422),
    ("/v1/systemone", {"state": GOOD, "questions": {"q": {"type": "noul"}}}, 422),
    ("/v1/systemone", {"state": 10**25, "questions": {"q": {"type": "noul", "instructions": "?"}}}, 422),
    ("/v1/systemone", {"state": [10**25], "questions": {"q": {"type": "noul", "instructions": "?"}}}, 422),
    ("/v1/bundle", {"folder": ""}, 400),
    ("/v1/bundle", {"folder": "a\0b"}, 400),
    ("/v1/bundle", {"folder": "x" * 4096}, 422),
    ("/v1/bundle", {"folder": "/proc/self/fd"}, 422),
    ("/v1/bundle", {"folder": "/dev/zero"}, 422),
]


@pytest.mark.parametrize(("path", "body", "status"), SPECIAL)
def test_what_one_protocol_alone_can_get_wrong(plain_server: str, path: str, body: dict[str, Any], status: int) -> None:
    reply = client().post(plain_server + path, json=body)
    assert reply.status_code == status, reply.text[:300]


@pytest.mark.parametrize("path", ["/v1/classify/", "//v1/classify", "/V1/classify", "/v1/classify/..", "/soup"])
def test_a_route_that_does_not_exist_is_not_guessed(plain_server: str, path: str) -> None:
    reply = client().post(plain_server + path, json={"inputs": GOOD})
    assert reply.status_code == 404
    assert reply.json()["error"]["kind"] == "not_found"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "SOUP"])
def test_a_method_that_a_route_does_not_have_is_refused_and_the_right_one_named(plain_server: str, method: str) -> None:
    reply = client().request(method, f"{plain_server}/v1/classify")
    assert reply.status_code in (400, 405)  # 400: no method of HTTP at all
    if reply.status_code == 405:
        assert reply.headers["Allow"] == "POST"
