"""What is sent and what is read: thinking, prompt caching, and a bound that no prompt exceeds."""

from pathlib import Path

import msgspec
import pytest

from hybrid.config import LLMConfig
from hybrid.errors import ConfigError
from hybrid.llm import FailureKind, open_llm, pricing_of
from hybrid.llm.client.messages import Messages
from hybrid.llm.cost.prices import cost_usd
from hybrid.llm.messages_format import most_input_tokens, to_params
from hybrid.llm.request import Reply
from hybrid.llm.tasks.label import label_request
from hybrid.recipe_files.read import read_recipe
from tests.billing_server import PRICES_TOML, BillingServer, billed
from tests.conftest import write_project
from tests.test_faults import CONFIG, LABELS, questions, terms

THOUGHT = [
    {"type": "thinking", "thinking": "Lovely is praise.", "signature": "s"},
    {"type": "text", "text": '{"rationale": "r", "label": "positive", "confidence": 1}'},
]


def asked_with(thinking: object) -> dict[str, object]:
    config = msgspec.structs.replace(CONFIG, thinking=thinking)
    return to_params(label_request("verify", "Lovely", LABELS, config), "m", cache=False)


def test_a_number_of_tokens_to_think_in_comes_on_top_of_the_answers() -> None:
    params = asked_with(2048)
    assert params["thinking"] == {"type": "enabled", "budget_tokens": 2048}
    assert params["max_tokens"] == 2048 + CONFIG.max_tokens


def test_a_newer_model_is_told_how_hard_to_think_and_asked_to_show_it() -> None:
    params = asked_with("high")
    assert params["thinking"] == {"type": "adaptive", "display": "summarized"}
    assert params["output_config"]["effort"] == "high"  # type: ignore[index]
    assert params["max_tokens"] == CONFIG.max_tokens


def test_without_thinking_nothing_is_said_about_it() -> None:
    params = asked_with(msgspec.UNSET)
    assert "thinking" not in params
    assert set(params["output_config"]) == {"format"}  # type: ignore[call-overload]


def test_the_thinking_is_kept_in_the_trace_and_apart_from_the_answer(tmp_path: Path) -> None:
    with BillingServer(billed(content=THOUGHT)) as server:
        config = LLMConfig(model="m", base_url=server.url, thinking=1024)
        for _ in range(2):
            llm = open_llm(config, folder=tmp_path, store=tmp_path / "store", role="teacher")
            assert llm is not None
            reply = llm.ask(label_request("verify", "Lovely", LABELS, config))
            assert (reply.thinking, reply.text) == ("Lovely is praise.", THOUGHT[1]["text"])
        assert len(server.bodies) == 1


def test_the_fixed_part_of_a_prompt_is_written_to_the_cache_once_and_read_after() -> None:
    with BillingServer() as server:
        llm = Messages("m", base_url=server.url)
        llm.pricing = terms()
        first, second = (llm.ask(request) for request in questions(2))
        assert server.bodies[0]["system"] == [
            {"type": "text", "text": questions(1)[0].system, "cache_control": {"type": "ephemeral"}}
        ]
    assert first.cache_write_tokens == second.cache_read_tokens > 0
    assert first.cache_read_tokens == second.cache_write_tokens == 0
    assert first.cost_usd is not None
    assert second.cost_usd is not None
    assert second.cost_usd < first.cost_usd


def test_another_server_gets_a_plain_prompt_unless_the_recipe_says_that_it_caches(tmp_path: Path) -> None:
    elsewhere = LLMConfig(model="m", base_url="http://127.0.0.1:9")
    assert not pricing_of(elsewhere, folder=tmp_path, role="teacher").cache
    assert pricing_of(msgspec.structs.replace(elsewhere, cache=True), folder=tmp_path, role="teacher").cache
    assert pricing_of(LLMConfig(model="claude-haiku-4-5"), folder=tmp_path, role="teacher").cache


def test_cached_tokens_have_prices_of_their_own_and_a_batch_is_cheaper() -> None:
    price = terms().price
    reply = Reply(
        status="ok", model="m", input_tokens=10, output_tokens=2, cache_write_tokens=100, cache_read_tokens=50
    )
    whole = (10 * 100 + 2 * 500 + 100 * 125 + 50 * 10) / 1e6
    assert cost_usd(price, reply) == pytest.approx(whole)
    assert cost_usd(price, reply, batch=True) == pytest.approx(whole / 2)
    assert price is not None
    assert cost_usd(msgspec.structs.replace(price, cache_read=None), reply) is None


@pytest.mark.parametrize(
    "text", ["plain words of English", "日本語の文章です", "🙂🙃😀😃", "aaaaaaaa" * 50, "\\u0000\n\t"]
)
def test_no_tokenizer_of_bytes_makes_more_tokens_than_the_bound(text: str) -> None:
    request = label_request("verify", text, LABELS, CONFIG)
    assert most_input_tokens(request) >= len((request.system + request.user).encode()) + 1024


def test_a_budget_without_a_price_is_an_error_before_anything_is_sent(tmp_path: Path) -> None:
    config = LLMConfig(model="m", base_url="http://127.0.0.1:9", budget_usd=1.0)
    with pytest.raises(ConfigError, match=r"decoder\.budget_usd = 1: the price of the model \(m\) is not known"):
        open_llm(config, folder=tmp_path, store=tmp_path / "store", role="decoder")
    (tmp_path / "prices.toml").write_text("[models]\nm = { input = 1, output = 1 }\n")
    priced = msgspec.structs.replace(config, prices="prices.toml")
    assert open_llm(priced, folder=tmp_path, store=None, role="decoder") is not None
    for change, said in (({"batch": True}, "its price in a batch"), ({"cache": True}, "its price of cache_write")):
        with pytest.raises(ConfigError, match=said):
            open_llm(msgspec.structs.replace(priced, **change), folder=tmp_path, store=None, role="d")


def test_a_prompt_too_long_for_its_price_fails_alone_under_a_budget(tmp_path: Path) -> None:
    with BillingServer() as server:
        (tmp_path / "prices.toml").write_text("[models]\nm = { input = 1, output = 1, up_to = 5000 }\n")
        config = LLMConfig(model="m", base_url=server.url, prices="prices.toml", budget_usd=1.0, max_tokens=60)
        llm = open_llm(config, folder=tmp_path, store=tmp_path / "store", role="teacher")
        assert llm is not None
        short, long = (llm.ask(label_request("verify", "word " * n, LABELS, config)) for n in (3, 2000))
        assert (short.status, long.status, len(server.bodies)) == ("ok", "failed", 1)
        assert long.failure is FailureKind.NO_PRICE


def test_batches_are_opened_where_the_recipe_asks_for_them(tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text(PRICES_TOML)
    with BillingServer() as server:
        config = LLMConfig(model="m", base_url=server.url, prices="prices.toml", batch=True)
        llm = open_llm(config, folder=tmp_path, store=tmp_path / "store", role="teacher")
        assert type(llm).__name__ == "Batched"
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(ConfigError, match="a local model has no batches"):
        open_llm(LLMConfig(model="m.gguf", batch=True), folder=tmp_path, store=None, role="teacher")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("thinking = 2048\ntemperature = 0.5", "teacher.temperature with thinking"),
        ('thinking = "high"\nmax_tokens = 400', "teacher.max_tokens = 400 with thinking = 'high'"),
        ("thinking = 100", "teacher.thinking = 100"),
        ('thinking = "hard"', "teacher.thinking = 'hard'"),
        ("budget_usd = 0", "teacher.budget_usd = 0"),
    ],
)
def test_a_recipe_that_its_api_would_refuse_is_refused_when_it_is_read(lines: str, said: str, tmp_path: Path) -> None:
    path = write_project(tmp_path, tmp_path, extra=f"[teacher]\n{lines}\n")
    with pytest.raises(ConfigError) as error:
        read_recipe(path)
    assert said in str(error.value)
