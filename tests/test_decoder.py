"""The runtime's decoder: a vote a text, and never an exception for the service."""

import subprocess
import sys

from hybrid.config import LLMConfig
from hybrid.errors import BudgetError
from hybrid.llm import Reply, Request
from hybrid.llm.client.messages import Messages, Retry
from hybrid.runtime.decoder import LLMDecoder
from tests.messages_server import MessagesServer, answer, label, status

LABELS = ("negative", "positive")


def decoder(server: MessagesServer) -> LLMDecoder:
    llm = Messages("m", base_url=server.url, retry=Retry(first_wait_s=0.01))
    return LLMDecoder(llm, LABELS, policy="Praise is positive.", config=LLMConfig(workers=1))


def test_each_text_gets_a_vote_in_order() -> None:
    with MessagesServer(label("negative", 0.7), label("shrug"), answer("", stop_reason="refusal")) as server:
        votes = decoder(server).decide(["one", "two", "three"])
        assert "Praise is positive." in server.bodies[0]["system"]
        assert "one" in server.bodies[0]["messages"][0]["content"]
    assert [(vote.id, vote.status, vote.label, vote.confidence) for vote in votes] == [
        ("0", "ok", "negative", 0.7),
        ("1", "unreadable", None, None),
        ("2", "abstained", None, None),
    ]
    assert all(vote.teacher == "m" for vote in votes)


def test_a_server_that_is_down_gives_failed_votes() -> None:
    with MessagesServer(status(500)) as server:
        assert [vote.status for vote in decoder(server).decide(["one"])] == ["failed"]


def test_a_key_that_is_refused_gives_failed_votes_with_the_reason() -> None:
    with MessagesServer(status(401, "invalid key")) as server:
        votes = decoder(server).decide(["one", "two"])
    assert [vote.status for vote in votes] == ["failed", "failed"]
    assert "invalid key" in votes[0].reason


def test_answers_before_the_budget_is_used_up_stay_and_nobody_is_asked_after() -> None:
    class Limited:
        name = "m"
        n_asked = 0

        def ask(self, request: Request) -> Reply:
            self.n_asked += 1
            if self.n_asked > 2:
                raise BudgetError("decoder.budget_usd = 1: used up")
            return Reply(status="ok", text='{"label": "positive"}', model="m")

    llm = Limited()
    votes = LLMDecoder(llm, LABELS, config=LLMConfig(workers=1)).decide([f"text {i}" for i in range(40)])
    assert [vote.status for vote in votes] == ["ok"] * 2 + ["failed"] * 38
    assert {vote.reason for vote in votes[2:]} == {"decoder.budget_usd = 1: used up"}
    assert llm.n_asked == 3


def test_no_texts_ask_nobody() -> None:
    with MessagesServer(label("negative")) as server:
        assert decoder(server).decide([]) == []
        assert server.bodies == []


def test_the_decoder_imports_no_heavy_module() -> None:
    heavy = ["torch", "transformers", "sklearn", "cleanlab", "datasets", "anthropic", "xllamacpp", "scipy"]
    code = f"import sys\nfor name in {heavy}: sys.modules[name] = None\nimport hybrid.runtime.decoder"
    subprocess.run([sys.executable, "-c", code], check=True)
