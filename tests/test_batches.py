"""Message Batches: every row ends in one way, nothing is handed over twice, and a kill at any point is survived."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hybrid.errors import BudgetError, LLMError
from hybrid.llm import FailureKind, Reply, Request, ask_all, key, usage_of
from hybrid.llm.batches.api import PollingPolicy
from hybrid.llm.batches.batched import Batched
from hybrid.llm.client.messages import Messages
from hybrid.llm.client.retry import Retry
from hybrid.llm.cost.trace_ledger import run_ledger
from hybrid.llm.traces.cache import CachedLLM
from hybrid.llm.traces.database import TraceDatabase
from tests.billing_server import BillingServer, take, take_and_reset
from tests.messages_server import Act, status
from tests.test_faults import Address, check_books, questions, terms

FAST = Retry(tries=3, first_wait_s=0.01)


class Teacher:
    """A model that asks in batches, on one file."""

    def __init__(
        self, server: BillingServer | Address, path: Path, budget: float | None = None, size: int = 1000
    ) -> None:
        self.file = TraceDatabase(path)
        self.ledger = run_ledger(self.file, terms(budget, batch=True))
        messages = Messages("m", base_url=server.url, timeout_s=5, retry=FAST, ledger=self.ledger)
        pace = PollingPolicy(most_requests=size, first_wait_s=0.01, longest_wait_s=0.05)
        self.llm = Batched(CachedLLM(messages, self.file), messages, self.ledger, pace)

    def ask(self, requests: list[Request]) -> list[Reply]:
        return ask_all(requests, self.llm, 4)

    def n_answers(self) -> int:
        return int(self.file.read("SELECT count(*) FROM answers")[0][0])


def n_handed_over(server: BillingServer) -> int:
    return sum(len(batch["results"]) for batch in server.batches.values())


def test_a_batch_answers_every_row_at_its_own_price_and_is_not_asked_twice(tmp_path: Path) -> None:
    with BillingServer() as server:
        server.looks = 3
        teacher = Teacher(server, tmp_path / "store", size=8)
        heard: list[int] = []
        requests = [*questions(20), questions(20)[3]]
        replies = ask_all(requests, teacher.llm, 4, heard.append)
        assert [reply.status for reply in replies] == ["ok"] * 21
        assert replies[20] == replies[3]
        assert [len(batch["results"]) for batch in server.batches.values()] == [8, 8, 4]
        assert heard[-1] == 21
        check_books(server, teacher.ledger.spent())
        again = Teacher(server, tmp_path / "store")
        assert again.ask(requests) == replies
        usage = usage_of(again.llm)
        assert usage is not None
        assert (usage.calls, usage.hits, n_handed_over(server)) == (0, 20, 20)


def by_turn(*kinds: str) -> Callable[[int, dict[str, Any]], str]:
    return lambda number, request: kinds[number % len(kinds)]


def test_a_batch_half_errored_asks_again_only_what_can_pass(tmp_path: Path) -> None:
    asked: dict[str, int] = {}

    def outcome(number: int, request: dict[str, Any]) -> str:
        asked[request["custom_id"]] = asked.get(request["custom_id"], 0) + 1
        kind = ("succeeded", "api_error", "invalid_request_error", "succeeded")[int(request["custom_id"], 16) % 4]
        return "succeeded" if kind == "api_error" and asked[request["custom_id"]] == 2 else kind

    with BillingServer() as server:
        server.outcome = outcome
        teacher = Teacher(server, tmp_path / "store")
        requests = questions(40)
        replies = teacher.ask(requests)
        invalid = [reply for reply, r in zip(replies, requests, strict=True) if int(key("m", r), 16) % 4 == 2]
        passing = [r for r in requests if int(key("m", r), 16) % 4 == 1]
        assert invalid
        assert passing
        assert {reply.status for reply in invalid} == {"failed"}
        assert (invalid[0].failure, "invalid_request_error" in invalid[0].reason) == (FailureKind.REJECTED, True)
        assert sum(reply.status == "ok" for reply in replies) == 40 - len(invalid)
        assert asked == {key("m", r): 1 + (r in passing) for r in requests}
        assert set(server.answers.values()) == {1}
        check_books(server, teacher.ledger.spent())


def test_a_batch_that_expires_is_handed_over_three_times_and_costs_nothing(tmp_path: Path) -> None:
    with BillingServer() as server:
        server.outcome = by_turn("expired")
        teacher = Teacher(server, tmp_path / "store", budget=2.0)
        replies = teacher.ask(questions(5))
        assert {(reply.status, reply.failure) for reply in replies} == {("failed", FailureKind.EXPIRED)}
        assert len(server.batches) == 3
        spent = teacher.ledger.spent()
        assert (spent.calls, spent.settled_usd, spent.unsettled_usd) == (0, 0, 0)


def test_what_a_person_canceled_is_not_asked_again(tmp_path: Path) -> None:
    with BillingServer() as server:
        server.outcome = by_turn("succeeded", "canceled")
        replies = Teacher(server, tmp_path / "store").ask(questions(6))
        assert [reply.status for reply in replies] == ["ok", "failed"] * 3
        assert len(server.batches) == 1


def test_a_batch_never_crosses_the_budget_and_goes_on_where_it_stopped(tmp_path: Path) -> None:
    with BillingServer() as server:
        teacher = Teacher(server, tmp_path / "store", budget=0.5, size=30)
        with pytest.raises(BudgetError, match=r"teacher\.budget_usd"):
            teacher.ask(questions(100))
        first = n_handed_over(server)
        assert 0 < server.usd <= 0.5
        assert 2 < first == teacher.n_answers() < 100
        check_books(server, teacher.ledger.spent())
        richer = Teacher(server, tmp_path / "store", budget=50)
        assert {reply.status for reply in richer.ask(questions(100))} == {"ok"}
        assert n_handed_over(server) == 100
        check_books(server, richer.ledger.spent())


@pytest.mark.parametrize("fault", [status(429), status(529), status(500)], ids=["429", "529", "500"])
def test_a_batch_that_is_refused_at_first_is_handed_over_once(fault: Act, tmp_path: Path) -> None:
    acts = [fault, take]
    with BillingServer() as server:
        server.on_create = lambda handler, body: (acts.pop(0) if len(acts) > 1 else acts[0])(handler, body)
        teacher = Teacher(server, tmp_path / "store")
        assert {reply.status for reply in teacher.ask(questions(7))} == {"ok"}
        assert n_handed_over(server) == 7
        check_books(server, teacher.ledger.spent())


def test_a_batch_whose_id_was_lost_on_the_way_is_found_again_among_others(tmp_path: Path) -> None:
    with BillingServer() as server:
        stranger = Teacher(server, tmp_path / "another")
        stranger.ask(questions(57)[50:])
        server.on_create = take_and_reset
        teacher = Teacher(server, tmp_path / "store")
        assert {reply.status for reply in teacher.ask(questions(7))} == {"ok"}
        assert n_handed_over(server) == 14
        assert set(server.answers.values()) == {1}
        assert teacher.ledger.spent().calls == 7


def test_a_server_without_batches_says_so_and_holds_nothing_back(tmp_path: Path) -> None:
    with BillingServer() as server:
        server.on_create = status(404, "no such path")
        teacher = Teacher(server, tmp_path / "store", budget=2.0)
        with pytest.raises(LLMError, match=r"batch = true: .*404: no such path.*leave batch out"):
            teacher.ask(questions(3))
        assert teacher.ledger.spent().unsettled_usd == 0


def test_results_that_break_off_are_read_again(tmp_path: Path) -> None:
    n_broken = 0

    def break_off(handler: Any, look: dict[str, Any]) -> None:
        nonlocal n_broken
        if look["results"] and n_broken < 2:
            n_broken += 1
            handler.send_response(200)
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
            handler.wfile.write(b'{"custom_id": "x", "result": {"type": "expi')
            handler.wfile.flush()
            handler.connection.shutdown(2)

    with BillingServer() as server:
        server.on_look = break_off
        teacher = Teacher(server, tmp_path / "store")
        assert {reply.status for reply in teacher.ask(questions(7))} == {"ok"}
        assert n_broken == 2
        check_books(server, teacher.ledger.spent())


ASKING = """
import sys
from pathlib import Path
from tests.test_batches import Teacher
from tests.test_faults import Address, questions
Teacher(Address(sys.argv[1]), Path(sys.argv[2]), budget=100.0).ask(questions(int(sys.argv[3])))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "point", ["before it is handed over", "before its id is heard", "while it waits", "in its results"]
)
def test_a_kill_at_any_point_neither_loses_nor_pays_twice(point: str, tmp_path: Path) -> None:
    path, n_rows = tmp_path / "store", 12

    def kill(handler: Any, look: dict[str, Any]) -> None:
        if run.poll() is None and look["results"] == (point == "in its results"):
            run.kill()
            run.wait()

    def kill_on_create(handler: Any, body: dict[str, Any]) -> None:
        if point == "before its id is heard":
            handler.server.create(body)
        run.kill()
        run.wait()

    with BillingServer() as server:
        server.looks = 2
        early = point in ("before it is handed over", "before its id is heard")
        server.on_create, server.on_look = (kill_on_create, None) if early else (None, kill)
        command = [sys.executable, "-c", ASKING, server.url, str(path), str(n_rows)]
        run = subprocess.Popen(command, cwd=Path(__file__).parents[1])
        assert run.wait(timeout=120) == -signal.SIGKILL
        server.on_create = server.on_look = None
        assert Teacher(server, path).n_answers() == 0
        teacher = Teacher(server, path, budget=100.0)
        assert {reply.status for reply in teacher.ask(questions(n_rows))} == {"ok"}
        assert set(server.answers.values()) == {1}
        assert n_handed_over(server) == n_rows == teacher.n_answers()
        assert teacher.ledger.spent().unsettled == 0
        check_books(server, teacher.ledger.spent())
