"""The adapters: what each kind of answer of a real HTTP server becomes."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from msgspec import UNSET, UnsetType

from hybrid.config import LLMConfig
from hybrid.errors import ConfigError, DataError, LLMError
from hybrid.llm import LLM, FailureKind, Reply, Request, ask_all, key, open_llm
from hybrid.llm.client.messages import Messages, Retry
from hybrid.llm.cost.prices import cost_usd, packaged_prices, price_of, read_prices
from hybrid.llm.tasks.drafts import draft_request, read_draft
from hybrid.llm.tasks.label import label_request, label_schema, read_vote
from hybrid.llm.traces.recorded import Recorded
from hybrid.types import Example
from tests.messages_server import Act, MessagesServer, answer, label, raw, reset, status

LABELS = ("negative", "positive")
FAST = Retry(first_wait_s=0.01, longest_wait_s=2.0)
REQUEST = label_request("verify", "Lovely day", LABELS, LLMConfig(max_tokens=50))


def asked(*acts: Act, request: Request = REQUEST, timeout_s: float = 5.0) -> tuple[Reply, MessagesServer]:
    with MessagesServer(*acts) as server:
        llm = Messages("m", base_url=server.url, timeout_s=timeout_s, retry=FAST)
        return llm.ask(request), server


def test_an_answer_comes_back_with_its_tokens_and_the_schema_was_sent() -> None:
    reply, server = asked(label("positive"))
    assert (reply.status, reply.input_tokens, reply.output_tokens, reply.cost_usd) == ("ok", 100, 20, None)
    assert json.loads(reply.text)["label"] == "positive"
    body = server.bodies[0]
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": label_schema(LABELS)}}
    assert body["system"] == REQUEST.system
    assert body["messages"] == [{"role": "user", "content": REQUEST.user}]
    assert "temperature" not in body


def test_the_temperature_is_sent_only_when_it_is_set() -> None:
    _, server = asked(label("positive"), request=msgspec.structs.replace(REQUEST, temperature=0.3))
    assert server.bodies[0]["temperature"] == 0.3


def test_retry_after_is_waited_for() -> None:
    started = time.monotonic()
    reply, server = asked(status(429, headers={"Retry-After": "0.3"}), label("positive"))
    assert reply.status == "ok"
    assert len(server.bodies) == 2
    assert time.monotonic() - started >= 0.3


def test_a_server_that_wants_too_long_a_wait_is_not_waited_for() -> None:
    reply, server = asked(status(429, headers={"Retry-After": "3600"}), label("positive"))
    assert reply.status == "failed"
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    "first", [status(529), status(500), status(408), status(409), reset], ids=["529", "500", "408", "409", "reset"]
)
def test_what_can_pass_is_tried_again(first: Act) -> None:
    reply, server = asked(first, label("positive"))
    assert reply.status == "ok"
    assert len(server.bodies) == 2


@pytest.mark.parametrize(
    ("act", "kind", "http_status", "said"),
    [
        (status(500, "it timed out"), FailureKind.SERVER_ERROR, 500, "500: it timed out"),
        (status(529, "busy"), FailureKind.RATE_LIMITED, 529, "529: busy"),
        (status(409, "conflict"), FailureKind.REJECTED, 409, "409: conflict"),
        (reset, FailureKind.NETWORK, UNSET, "onnection"),
    ],
)
def test_what_never_passes_fails_after_four_tries_and_says_how(
    act: Act, kind: FailureKind, http_status: int | UnsetType, said: str
) -> None:
    reply, server = asked(act)
    assert (reply.status, reply.failure, reply.http_status) == ("failed", kind, http_status)
    assert said in reply.reason
    assert reply.text == ""
    assert len(server.bodies) == 4


@pytest.mark.slow
def test_a_timeout_is_tried_again_and_then_fails() -> None:
    reply, server = asked(lambda handler, body: time.sleep(1), timeout_s=0.1)
    assert (reply.status, reply.failure) == ("failed", FailureKind.TIMED_OUT)
    assert len(server.bodies) == 4


@pytest.mark.parametrize("code", [401, 402, 404, 405])
def test_a_misconfigured_run_stops_at_once(code: int) -> None:
    with MessagesServer(status(code, "not like this")) as server:
        with pytest.raises(LLMError, match=f"{code}: not like this"):
            Messages("m", base_url=server.url, retry=FAST).ask(REQUEST)
        assert len(server.bodies) == 1


@pytest.mark.parametrize("act", [raw("<html>hello</html>", "text/html"), raw("not json", "application/json")])
def test_a_server_of_another_protocol_is_an_error_not_an_answer(act: Act) -> None:
    reply, _ = asked(act)
    assert (reply.status, reply.failure) == ("failed", FailureKind.UNREADABLE)
    with (
        MessagesServer(act) as server,
        pytest.raises(LLMError, match=r"the first 5 questions all failed .*Messages protocol"),
    ):
        ask_all(questions(9), Messages("m", base_url=server.url, retry=FAST), 4)


@pytest.mark.parametrize("code", [400, 403, 413, 422, 451])
def test_a_text_that_the_server_refuses_fails_alone_and_is_not_sent_again(code: int) -> None:
    reply, server = asked(status(code, "not this one"))
    assert (reply.status, reply.failure, reply.http_status) == ("failed", FailureKind.REJECTED, code)
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("act", "status", "failure"),
    [
        (answer('{"rationale": "It', stop_reason="max_tokens"), "cut_off", UNSET),
        (answer("", stop_reason="refusal"), "refused", UNSET),
        (answer(""), "failed", FailureKind.EMPTY),
    ],
)
def test_an_answer_that_is_not_whole_is_not_ok(act: Act, status: str, failure: FailureKind | UnsetType) -> None:
    reply, _ = asked(act)
    assert (reply.status, reply.failure) == (status, failure)
    assert reply.reason


def test_claude_without_a_key_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(LLMError, match="ANTHROPIC_API_KEY is not set"):
        Messages("claude-haiku-4-5")


def test_the_key_of_claude_is_never_sent_to_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "token-secret")
    _, server = asked(label("positive"))
    assert "secret" not in json.dumps(server.headers)


def test_claude_is_asked_with_the_key_and_priced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with MessagesServer(label("positive")) as server:
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-mine")
        monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
        config = LLMConfig(model="claude-haiku-4-5-20251001", use_environment=True)
        llm = open_llm(config, folder=tmp_path, store=None, role="teacher")
        assert llm is not None
        assert llm.ask(REQUEST).cost_usd == pytest.approx((100 * 1 + 20 * 5) / 1e6)
        assert "sk-mine" in json.dumps(server.headers[0])


def test_a_price_is_known_or_absent_and_never_that_of_a_neighbour(tmp_path: Path) -> None:
    prices = packaged_prices()
    million, hundred = (Reply(status="ok", model="m", input_tokens=n) for n in (10**6, 100_001))
    snapshot = price_of(prices, "claude-opus-4-5-20251101")
    assert cost_usd(snapshot, million) == pytest.approx(prices["claude-opus-4-5"].input)
    assert price_of(prices, "claude-opus-4-5-turbo") is None
    assert price_of(prices, "llama-3") is None
    assert cost_usd(None, hundred) is None
    assert cost_usd(price_of(prices, "claude-haiku-5-5"), hundred) is None
    own = tmp_path / "prices.toml"
    own.write_text('[models]\n"llama-3" = { input = 1.0, output = 2.0 }\n')
    assert cost_usd(price_of(read_prices(own), "llama-3"), million) == pytest.approx(1.0)
    own.write_text('[models]\n"llama-3" = { input = "free" }\n')
    with pytest.raises(ConfigError, match=r"prices\.toml"):
        read_prices(own)


def test_a_users_price_list_prices_another_server(tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text("[models]\nm = { input = 10, output = 100 }\n")
    with MessagesServer(label("positive")) as server:
        config = LLMConfig(model="m", base_url=server.url, prices="prices.toml")
        llm = open_llm(config, folder=tmp_path, store=None, role="teacher")
        assert llm is not None
        assert llm.ask(REQUEST).cost_usd == pytest.approx(0.003)


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        ('{"rationale": "r", "label": "positively", "confidence": 1}', "unreadable"),
        ('{"rationale": "r", "label": "pos itive", "confidence": 1}', "unreadable"),
        ('{"rationale": "r", "label": ["positive"], "confidence": 1}', "unreadable"),
        ('{"rationale": "r", "confidence": 1}', "unreadable"),
        ("positive", "unreadable"),
        ('["positive"]', "unreadable"),
        ('{"rationale": "r", "label": "positive"', "unreadable"),
        ('{"rationale": "r", "label": "positive", "confidence": 1}', "ok"),
    ],
)
def test_only_a_label_of_the_set_is_a_label(reply: str, wanted: str) -> None:
    vote = read_vote("1", Reply(status="ok", text=reply, model="m"), LABELS, teacher="m")
    assert vote.status == wanted
    assert (vote.label == "positive") is (wanted == "ok")
    assert bool(vote.reason) is (wanted != "ok")


@pytest.mark.parametrize(
    ("said", "wanted"),
    [("0.5", 0.5), ("1", 1.0), ("0", 0.0), ("1.2", None), ("-0.1", None), ("true", None), ('"0.9"', None)],
)
def test_a_confidence_that_is_none_stays_absent(said: str, wanted: float | None) -> None:
    text = f'{{"rationale": "r", "label": "positive", "confidence": {said}}}'
    vote = read_vote("1", Reply(status="ok", text=text, model="m"), LABELS, teacher="m")
    assert (vote.status, vote.confidence) == ("ok", wanted)


@pytest.mark.parametrize(("given", "wanted"), [("refused", "abstained"), ("failed", "failed"), ("cut_off", "failed")])
def test_a_reply_that_is_no_answer_has_no_label(given: str, wanted: str) -> None:
    text = '{"rationale": "r", "label": "positive", "confidence": 1}'
    reply = Reply(status=given, text=text, reason="why", model="m")  # type: ignore[arg-type]
    vote = read_vote("1", reply, LABELS, teacher="m")
    assert (vote.status, vote.label, vote.reason) == (wanted, None, "why")


def test_the_key_covers_every_part_of_the_request_and_the_model() -> None:
    changed = [
        msgspec.structs.replace(REQUEST, **{name: value})
        for name, value in {
            "system": "s",
            "user": "u",
            "schema": {},
            "max_tokens": 51,
            "temperature": 0.0,
            "sample": 1,
            "text": "t",
            "thinking": "high",
        }.items()
    ]
    assert len(changed) == len(msgspec.structs.fields(Request))
    keys = [key("m", REQUEST), key("n", REQUEST), *(key("m", request) for request in changed)]
    assert len(set(keys)) == len(keys)


TRACE = '{"id": "t/1", "text_sha256": "%s", "rationale": "warm", "label": "positive", "confidence": 0.8}\n'
DIGEST = "ca7265a084eb0915"


def traces(folder: Path, content: str) -> Path:
    path = folder / "traces.jsonl"
    path.write_text(content)
    return path


def test_a_recorded_answer_is_found_by_its_text_whatever_the_white_space(tmp_path: Path) -> None:
    llm = Recorded(traces(tmp_path, TRACE % DIGEST))
    for text in ("Lovely day", "  Lovely \n day "):
        reply = llm.ask(msgspec.structs.replace(REQUEST, text=text))
        assert (reply.status, reply.cost_usd) == ("ok", 0.0)
        assert json.loads(reply.text) == {"rationale": "warm", "label": "positive", "confidence": 0.8}


@pytest.mark.parametrize("change", [{"text": "lovely day"}, {"text": ""}, {"sample": 1}])
def test_what_is_not_recorded_fails_and_is_never_made_up(tmp_path: Path, change: dict[str, object]) -> None:
    reply = Recorded(traces(tmp_path, TRACE % DIGEST)).ask(msgspec.structs.replace(REQUEST, **change))
    assert (reply.status, reply.failure, reply.text) == ("failed", FailureKind.NOT_RECORDED, "")


@pytest.mark.parametrize("second", ["not json\n", '{"id": "t/2"}\n', (TRACE % DIGEST).replace("positive", "negative")])
def test_a_malformed_or_contradicting_trace_names_file_and_line(tmp_path: Path, second: str) -> None:
    with pytest.raises(DataError, match=r"traces\.jsonl:2"):
        Recorded(traces(tmp_path, TRACE % DIGEST + second))


def test_a_missing_file_of_traces_is_one_clear_sentence(tmp_path: Path) -> None:
    config = LLMConfig(model="recorded", traces="nowhere.jsonl")
    with pytest.raises(ConfigError, match=r"nowhere\.jsonl: no such file"):
        open_llm(config, folder=tmp_path, store=None, role="teacher")


def test_no_model_is_none_and_an_unknown_one_says_what_is_possible(tmp_path: Path) -> None:
    assert open_llm(LLMConfig(), folder=tmp_path, store=None, role="decoder") is None
    with pytest.raises(ConfigError, match=r"decoder\.model = 'gpt'.*'recorded', 'local'"):
        open_llm(LLMConfig(model="gpt"), folder=tmp_path, store=None, role="decoder")


class Fake:
    """Answers with the text of the request, slower for earlier ones."""

    name = "fake"

    def __init__(self, act: Callable[[Request], Reply]) -> None:
        self.asked: list[str] = []
        self._act = act

    def ask(self, request: Request) -> Reply:
        self.asked.append(request.text)
        return self._act(request)


def questions(n: int) -> list[Request]:
    return [msgspec.structs.replace(REQUEST, text=str(i)) for i in range(n)]


def test_replies_come_in_the_order_of_the_requests_and_progress_is_heard() -> None:
    def slow(request: Request) -> Reply:
        time.sleep(0.02 if int(request.text) % 2 else 0)
        return Reply(status="ok", text=request.text, model="fake")

    heard: list[int] = []
    llm: LLM = Fake(slow)
    replies = ask_all(questions(12), llm, 4, heard.append)
    assert [reply.text for reply in replies] == [str(i) for i in range(12)]
    assert heard == list(range(1, 13))


def test_a_model_that_cannot_be_used_stops_the_run_at_once() -> None:
    def broken(request: Request) -> Reply:
        time.sleep(0.005)
        raise LLMError("a wrong key")

    llm = Fake(broken)
    with pytest.raises(LLMError, match="a wrong key"):
        ask_all(questions(200), llm, 2)
    time.sleep(0.05)
    assert len(llm.asked) < 20


ROWS = [Example(id="1", text="I won </text>", label="positive"), Example(id="2", text="Great", label="positive")]


def test_a_draft_is_asked_for_with_fenced_training_rows_alone() -> None:
    request = draft_request("positive", LABELS, ROWS, LLMConfig(), sample=3)
    assert all(row.text in request.user for row in ROWS)
    assert '"positive"' in request.user
    assert request.sample == 3
    leaked = msgspec.structs.replace(ROWS[0], part="test")
    with pytest.raises(DataError, match="test row"):
        draft_request("positive", LABELS, [leaked], LLMConfig())


def test_a_reply_is_a_draft_or_no_answer_with_the_reason() -> None:
    good = read_draft("d", "positive", ROWS, Reply(status="ok", text='{"plan": "p", "text": " Hi! "}', model="m"))
    assert (good.text, good.plan, good.status, good.parents) == ("Hi!", "p", "accepted", ("1", "2"))
    for reply in (
        Reply(status="failed", reason="why", model="m"),
        Reply(status="ok", text="Hi!", model="m"),
        Reply(status="ok", text='{"plan": "p", "text": " "}', model="m"),
    ):
        bad = read_draft("d", "positive", ROWS, reply)
        assert (bad.status, bad.text) == ("no_answer", "")
        assert bad.reason


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "sentence"), [("anthropic", "hybrid-cascade[llm]"), ("xllamacpp", "hybrid-cascade[local]")]
)
def test_the_seam_imports_no_sdk_and_a_missing_one_is_named(tmp_path: Path, module: str, sentence: str) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    code = f"""
import sys
from pathlib import Path
heavy = ["anthropic", "xllamacpp", "torch", "sklearn", "transformers", "numpy", "httpx"]
for name in heavy: sys.modules[name] = None
import hybrid.llm, hybrid.llm.tasks.label, hybrid.llm.tasks.drafts, hybrid.llm.client.messages, hybrid.llm.local.embedded, hybrid.llm.traces.recorded
from hybrid.config import LLMConfig
from hybrid.errors import LLMError
from hybrid.llm import open_llm
model = {{"anthropic": "claude-x", "xllamacpp": "m.gguf"}}["{module}"]
try:
    open_llm(LLMConfig(model=model), folder=Path({str(tmp_path)!r}), store=None, role="teacher")
except LLMError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert sentence in done.stdout
