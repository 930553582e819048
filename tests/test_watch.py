"""One row that a server refuses is that row's failure; a run stops where its questions fail in earnest."""

from pathlib import Path
from typing import Any

import pytest

from hybrid.config import LLMConfig, VerifyConfig
from hybrid.errors import LLMError
from hybrid.llm import CachedLLM, ask_all
from hybrid.llm.client.messages import Messages
from hybrid.llm.client.retry import Retry
from hybrid.llm.client.watch import FAILED_FROM_START
from hybrid.llm.tasks.label import label_request
from hybrid.teacher.vote_collection import Teacher, collect_votes
from hybrid.types import Example
from tests.messages_server import Act, Handler, MessagesServer, label, reset, status

LABELS = ("bad", "good")
FAST = Retry(tries=2, first_wait_s=0.01)
WAF = "<html><title>403 Forbidden</title>Request blocked.</html>"


def page(code: int) -> Act:
    return lambda handler, body: handler.send(code, WAF, content_type="text/html")


def rows(n: int, refused: set[int]) -> list[Example]:
    return [Example(id=f"r{i}", text=f"{'BOMB' if i in refused else 'Dish'} {i}.", label="bad") for i in range(n)]


def unless_bomb(refusal: Act) -> Act:
    """Return the act of answering, but for texts that a filter of the server refuses."""

    def act(handler: Handler, body: dict[str, Any]) -> None:
        (refusal if "BOMB" in str(body["messages"]) else label("good"))(handler, body)

    return act


def teacher(server: MessagesServer, path: Path | None = None, **config: Any) -> Teacher:
    messages = Messages("m", base_url=server.url, retry=FAST)
    settings = LLMConfig(model="m", base_url=server.url, **({"workers": 4} | config))
    return Teacher(llm=CachedLLM(messages, path) if path else messages, config=settings)


def statuses(asked: list[Example], of: Teacher) -> list[str]:
    found = collect_votes(asked, LABELS, VerifyConfig(), teacher=of, beliefs=None, on_done=lambda done, total: None)
    return [vote.status for vote in found.votes]


REFUSALS = [
    status(400, "Output blocked by content filtering policy"),
    status(400, "prompt is too long: 210000 tokens > 200000 maximum"),
    status(422, "unprocessable"),
    status(413, "too large"),
    status(403, "blocked"),
    page(403),
    page(406),
    page(200),
]


@pytest.mark.parametrize(
    "refusal", REFUSALS, ids=["400", "too long", "422", "413", "403", "WAF", "406", "WAF with 200"]
)
@pytest.mark.parametrize("refused", [{7}, {0}, {0, 1, 2}, {29}], ids=str)
def test_rows_that_the_server_refuses_fail_alone_wherever_they_stand(refused: set[int], refusal: Act) -> None:
    with MessagesServer(unless_bomb(refusal)) as server:
        asked = rows(30, refused)
        found = collect_votes(
            asked, LABELS, VerifyConfig(), teacher=teacher(server), beliefs=None, on_done=lambda done, total: None
        )
    failed = {vote.id for vote in found.votes if vote.status == "failed"}
    assert failed == {f"r{i}" for i in refused}
    assert [vote.status for vote in found.votes].count("ok") == 30 - len(refused)
    assert found.report["failed"] == len(refused)


@pytest.mark.parametrize("refusal", [REFUSALS[0], page(403), page(200)], ids=["400", "WAF", "WAF with 200"])
def test_a_run_that_goes_on_is_not_stopped_by_the_one_row_that_is_left(refusal: Act, tmp_path: Path) -> None:
    with MessagesServer(unless_bomb(refusal)) as server:
        for _ in range(2):
            assert statuses(rows(20, {3}), teacher(server, tmp_path / "store")).count("failed") == 1


@pytest.mark.parametrize(
    "refusal",
    [status(401), status(404), page(404), status(500), reset, status(400)],
    ids=["401", "404", "page", "500", "reset", "400"],
)
def test_after_an_answer_no_status_ends_the_run_over_one_row(refusal: Act) -> None:
    with MessagesServer(unless_bomb(refusal)) as server:
        assert statuses(rows(12, {6}), teacher(server, workers=1)) == ["ok"] * 6 + ["failed"] + ["ok"] * 5


@pytest.mark.parametrize("refusal", [status(400, "no output_config"), page(403), page(502)], ids=["400", "WAF", "502"])
def test_a_server_that_refuses_everything_stops_the_run_after_five_rows_and_names_the_first(refusal: Act) -> None:
    with MessagesServer(refusal) as server:
        with pytest.raises(
            LLMError, match=rf"m: the first {FAILED_FROM_START} questions all failed \(row r\d+: .*\); correct"
        ):
            statuses(rows(300, set()), teacher(server))
        assert len(server.bodies) <= (FAILED_FROM_START + 4) * FAST.tries


def test_a_run_stops_once_more_than_the_stated_share_fails_and_names_the_first_rows_and_why() -> None:
    refused = set(range(20, 200, 2))
    with MessagesServer(unless_bomb(status(400, "Output blocked"))) as server:
        with pytest.raises(LLMError) as error:
            statuses(rows(200, refused), teacher(server, workers=1))
        n_asked = len(server.bodies)
        assert statuses(rows(200, refused), teacher(server, workers=1, max_failed=0.6)).count("failed") == 90
    assert n_asked < 60
    said = str(error.value)
    assert "questions failed, more than max_failed = 0.25 (row r20: " in said
    assert "Output blocked (try 1); row r22: " in said
    assert "raise max_failed" in said


def test_questions_without_a_row_are_named_by_their_text() -> None:
    requests = [
        label_request("decide", f"BOMB in  the\nkitchen {i}. " + "x" * 99, LABELS, LLMConfig()) for i in range(9)
    ]
    with (
        MessagesServer(status(400)) as server,
        pytest.raises(LLMError, match=r"\('BOMB in the kitchen \d. xxx+\.\.\.': "),
    ):
        ask_all(requests, Messages("m", base_url=server.url, retry=FAST), 1)
