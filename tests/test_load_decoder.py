"""`hybrid.load(bundle, decoder=...)`: a name, a server, a function, an object, settings; and what is refused."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import hybrid
from hybrid.config import LLMConfig
from hybrid.errors import ConfigError, LLMError
from tests.messages_server import Handler, MessagesServer, label, status

BUNDLE = Path(__file__).parent / "golden" / "bundle-format-3"
TEXT = "The soup was awful."


class Listing(MessagesServer):
    """A server of the Messages protocol that also lists its models."""

    def __init__(self, *names: str) -> None:
        super().__init__(label("good"))
        self.names = names

    def serve_other(self, handler: Handler, body: dict[str, Any]) -> None:
        handler.send(200, json.dumps({"object": "list", "data": [{"id": name} for name in self.names]}))


def answer(decoder: Any, **settings: Any) -> hybrid.Prediction:
    return hybrid.load(BUNDLE, decoder=decoder, **settings).classify([TEXT], threshold=1.0)[0]


def test_a_function_of_a_text_decides_what_escalates() -> None:
    asked: list[str] = []

    def shout(text: str) -> str:
        asked.append(text)
        return "good"

    prediction = answer(shout)
    assert (prediction.label, prediction.source, prediction.escalation) == ("good", "decoder", "answered")
    assert asked == [TEXT]


def test_a_function_that_gives_no_label_leaves_the_encoders_answer() -> None:
    own = hybrid.load(BUNDLE).classify([TEXT])[0]
    prediction = answer(lambda text: None)
    assert (prediction.label, prediction.source, prediction.escalation) == (own.label, "encoder", "undecided")


def test_a_function_that_raises_is_a_failed_decoder_with_the_error_as_reason() -> None:
    def broken(text: str) -> str:
        raise KeyError(text[:8])

    prediction = answer(broken)
    assert prediction.escalation == "failed"
    assert prediction.reason == "KeyError: 'The soup'"


def test_a_function_that_gives_something_else_is_undecided_with_what_it_gave() -> None:
    prediction = answer(lambda text: 3)
    assert prediction.escalation == "undecided"
    assert "gave a int; expected a label, None or a hybrid.Vote" in prediction.reason


def test_a_function_may_give_a_whole_vote() -> None:
    vote = hybrid.Vote(id="x", status="ok", label="good", rationale="Because.", teacher="me")
    assert answer(lambda text: vote).rationale == "Because."


def test_an_object_that_decides_is_taken_as_it_is() -> None:
    class Always:
        def decide(self, texts: Sequence[str]) -> list[hybrid.Vote]:
            return [hybrid.Vote(id="0", status="ok", label="bad", teacher="always") for _ in texts]

    assert answer(Always()).label == "bad"


def test_a_url_asks_the_one_model_that_the_server_lists() -> None:
    with Listing("qwen") as server:
        prediction = answer(server.url)
    assert (prediction.label, prediction.source) == ("good", "decoder")
    assert server.bodies[0]["model"] == "qwen"


def test_a_url_of_several_models_asks_for_the_name() -> None:
    with (
        Listing("qwen", "llama") as server,
        pytest.raises(ConfigError, match=r"2 models \(qwen, llama\), expected one"),
    ):
        answer(server.url)


def test_a_url_without_a_list_of_models_says_how_to_name_one() -> None:
    with MessagesServer(label("good")) as server, pytest.raises(ConfigError, match=r'decoder=\{"model": "NAME"'):
        answer(server.url)


@pytest.mark.parametrize("as_struct", [False, True])
def test_settings_of_a_decoder_section_name_model_and_server(as_struct: bool) -> None:
    with MessagesServer(label("good")) as server:
        settings = {"model": "qwen", "base_url": server.url, "max_tokens": 60}
        prediction = answer(LLMConfig(**settings) if as_struct else settings)
    assert prediction.label == "good"
    assert server.bodies[0]["max_tokens"] == 60


def test_a_budget_ends_the_questions_and_the_encoders_answers_stand(tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text("[models]\nqwen = { input = 1000.0, output = 1000.0 }\n")
    with MessagesServer(label("good")) as server:
        settings = {"model": "qwen", "base_url": server.url, "prices": str(prices), "workers": 1}
        classifier = hybrid.load(BUNDLE, decoder=settings, budget_usd=0.0001)
        prediction = classifier.classify([TEXT], threshold=1.0)[0]
    assert (prediction.source, prediction.escalation) == ("encoder", "failed")
    assert "budget" in prediction.reason
    assert server.bodies == []


def test_a_claude_model_without_a_key_is_an_error_before_any_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    with pytest.raises(LLMError, match="ANTHROPIC_API_KEY is not set"):
        hybrid.load(BUNDLE, decoder="claude-opus-4-8")


def test_a_gguf_that_is_not_there_is_an_error() -> None:
    with pytest.raises(hybrid.HybridError, match=r"no-model\.gguf"):
        hybrid.load(BUNDLE, decoder=Path("no-model.gguf"))


@pytest.mark.parametrize(
    ("decoder", "settings", "message"),
    [
        pytest.param("gpt", {}, r"load: decoder\.model = 'gpt': unknown; expected", id="unknown"),
        pytest.param(3, {}, "load: decoder = 3: expected the name of a model", id="number"),
        pytest.param({"modle": "x"}, {}, "modle: unknown key; did you mean 'model'", id="misspelled"),
        pytest.param(None, {"budget_usd": 1}, "budget_usd = 1 without a model that is paid", id="none"),
        pytest.param("local", {"budget_usd": 1}, "it costs nothing; leave the budget out", id="local"),
        pytest.param("claude-x", {"budget_usd": -1}, "budget_usd = -1: expected", id="negative"),
        pytest.param({"model": "claude-x", "batch": True}, {}, "a caller does not wait for a batch", id="batch"),
    ],
)
def test_what_cannot_decide_is_refused_in_a_sentence(decoder: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        hybrid.load(BUNDLE, decoder=decoder, **settings)


def test_a_server_that_refuses_leaves_the_encoders_answer() -> None:
    with MessagesServer(status(401, "no key")) as server:
        prediction = answer({"model": "qwen", "base_url": server.url})
    assert (prediction.source, prediction.escalation) == ("encoder", "failed")
