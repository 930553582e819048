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
from hybrid.llm.tasks.label import read_vote
from hybrid.llm.traces.cache import CachedLLM
from hybrid.llm.traces.database import TraceDatabase
from tests.billing_server import BillingServer, as_lines, take, take_and_reset, take_behind_a_gateway
from tests.messages_server import Act, status
from tests.test_faults import LABELS, Address, check_books, questions, terms


def gateway_page_of_a_look(code: int) -> Act:
    """Return the act of a gateway that answers a look at a batch with a page of its own."""
    return lambda handler, body: handler.send(code, "<html>no</html>", content_type="text/html")


FAST = Retry(tries=3, first_wait_s=0.01)


class Teacher:
    """A model that asks in batches, on one file."""

    def __init__(
        self, server: BillingServer | Address, path: Path, budget: float | None = None, size: int = 1000
    ) -> None:
        self.file = TraceDatabase(path)
        self.ledger = run_ledger(self.file, terms(budget, batch=True))
        messages = Messages("m", base_url=server.url, timeout_s=5, retry=FAST, ledger=self.ledger)
        pace = PollingPolicy(
            most_requests=size,
            first_wait_s=0.01,
            longest_wait_s=0.05,
            gone_looks=3,
            gone_after_s=0.1,
            look_again_s=(0.01, 0.02),
        )
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


def test_a_batch_of_which_too_many_rows_are_refused_stops_the_run_and_keeps_the_answers(tmp_path: Path) -> None:
    with BillingServer() as server:
        server.outcome = by_turn("succeeded", "invalid_request_error")
        teacher = Teacher(server, tmp_path / "store")
        with pytest.raises(
            LLMError, match=r"more than max_failed = 0\.25 \(row r1: errored in the batch: invalid_request"
        ):
            ask_all(questions(40), teacher.llm, 4, names=[f"row r{i}" for i in range(40)], max_failed=0.25)
        assert teacher.n_answers() == 20


def test_rows_that_are_refused_at_the_start_of_a_batch_fail_alone(tmp_path: Path) -> None:
    with BillingServer() as server:
        server.outcome = lambda number, request: "errored" if number < 6 else "succeeded"
        replies = Teacher(server, tmp_path / "store").ask(questions(20))
        assert [reply.status for reply in replies] == ["failed"] * 6 + ["ok"] * 14


def test_two_runs_that_wait_for_one_batch_both_get_its_answers(tmp_path: Path) -> None:
    path = tmp_path / "store"
    with BillingServer() as server:
        first, second = Teacher(server, path), Teacher(server, path)
        of_second: list[Reply] = []

        def collect_in_between(handler: Any, look: dict[str, Any]) -> None:
            server.on_look = None
            of_second.extend(second.ask(questions(5)))

        server.on_look = collect_in_between
        replies = first.ask(questions(5))
        assert [reply.status for reply in replies] == [reply.status for reply in of_second] == ["ok"] * 5
        assert n_handed_over(server) == 5
        check_books(server, first.ledger.spent())


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


def once(act: Act, *, results: bool) -> Act:
    """Return the act of doing `act` at the first look at a batch's state, or at its results, and nothing later."""
    left = [act]

    def look(handler: Any, look: dict[str, Any]) -> None:
        if look["results"] == results and left:
            left.pop()(handler, look)
            raise ConnectionAbortedError

    return look


@pytest.mark.parametrize("results", [False, True], ids=["its state", "its results"])
@pytest.mark.parametrize(
    "act",
    [status(404, "not found"), gateway_page_of_a_look(404), gateway_page_of_a_look(502)],
    ids=["404", "page", "502"],
)
def test_one_look_that_does_not_find_a_batch_loses_no_answer(results: bool, act: Act, tmp_path: Path) -> None:
    with BillingServer() as server:
        server.on_look = once(act, results=results)
        teacher = Teacher(server, tmp_path / "store")
        assert {reply.status for reply in teacher.ask(questions(7))} == {"ok"}
        assert set(server.answers.values()) == {1}
        check_books(server, teacher.ledger.spent())


@pytest.mark.parametrize("results", [False, True], ids=["its state", "its results"])
def test_a_batch_that_stays_away_is_gone_and_its_cost_stays_booked(results: bool, tmp_path: Path) -> None:
    def never(handler: Any, look: dict[str, Any]) -> None:
        if look["results"] == results:
            status(404, "not found")(handler, look)
            raise ConnectionAbortedError

    with BillingServer() as server:
        server.on_look = never
        teacher = Teacher(server, tmp_path / "store")
        replies = teacher.ask(questions(4))
        assert {(reply.status, reply.failure) for reply in replies} == {("failed", FailureKind.EXPIRED)}
        spent = teacher.ledger.spent()
        assert (spent.calls, spent.unsettled) == (0, 4)
        assert spent.unsettled_usd >= server.usd > 0


ODD_MESSAGES: dict[str, Any] = {
    "no text": {"content": [{"type": "text", "text": None}]},
    "a block that is none": {"content": [None, 7, "x", {"type": "text", "text": {"a": 1}}]},
    "a lone surrogate": {"content": [{"type": "text", "text": '{"rationale": "\\ud800 \ud800", "label": "positive"}'}]},
    "no content": {"content": None},
    "another type": {"type": "completion"},
    "a model that is none": {"model": ["m"]},
    "usage that is none": {"usage": "many"},
    "a stop that is none": {"stop_reason": {"why": 1}},
}
ODD_RESULTS: dict[str, Any] = {
    "errored without an error": {"type": "errored", "error": None},
    "errored with a sentence": {"type": "errored", "error": "too long"},
    "an unknown end": {"type": "paused"},
    "no type": {},
    "a list": [1],
    "nothing": None,
    "a message that is none": {"type": "succeeded", "message": "yes"},
}


@pytest.mark.parametrize("name", [*ODD_MESSAGES, *ODD_RESULTS])
def test_one_odd_row_of_a_batch_fails_alone_and_counts_as_billed(name: str, tmp_path: Path) -> None:
    def odd(results: list[dict[str, Any]]) -> str:
        first = results[0]["result"]
        changed = {"type": "succeeded", "message": first["message"] | ODD_MESSAGES.get(name, {})}
        return as_lines([results[0] | {"result": ODD_RESULTS.get(name, changed)}, *results[1:]])

    with BillingServer() as server:
        server.result_lines = odd
        teacher = Teacher(server, tmp_path / "store")
        replies = teacher.ask(questions(6))
        assert [reply.status for reply in replies[1:]] == ["ok"] * 5
        assert replies[0].status == "ok" or replies[0].reason
        spent = teacher.ledger.spent()
        assert spent.settled_usd + spent.unsettled_usd >= server.usd - 1e-9
        assert [read_vote("r", reply, LABELS, teacher="m").status for reply in replies[1:]] == ["ok"] * 5
        again = Teacher(server, tmp_path / "store")
        assert [reply.status for reply in again.ask(questions(6)[1:])] == ["ok"] * 5
        assert n_handed_over(server) == 6


@pytest.mark.parametrize("key", [None, 7, "a stranger's"], ids=str)
def test_a_result_that_names_none_of_the_requests_leaves_its_own_without_a_result(key: object, tmp_path: Path) -> None:
    with BillingServer() as server:
        server.result_lines = lambda results: as_lines([results[0] | {"custom_id": key}, *results[1:]])
        teacher = Teacher(server, tmp_path / "store")
        replies = teacher.ask(questions(6))
        assert [reply.status for reply in replies] == ["failed"] + ["ok"] * 5
        assert "has no result" in replies[0].reason
        assert teacher.ledger.spent().unsettled == 1


@pytest.mark.parametrize("n_cut", [1, 99], ids=["once", "always"])
def test_a_last_line_that_is_cut_costs_no_other_row(n_cut: int, tmp_path: Path) -> None:
    reads: list[int] = []

    def cut(results: list[dict[str, Any]]) -> str:
        reads.append(1)
        return as_lines(results)[: -40 if len(reads) <= n_cut else None]

    with BillingServer() as server:
        server.result_lines = cut
        teacher = Teacher(server, tmp_path / "store")
        replies = teacher.ask(questions(6))
        assert [reply.status for reply in replies] == ["ok"] * 5 + ["ok" if n_cut == 1 else "failed"]
        spent = teacher.ledger.spent()
        assert (spent.calls, spent.unsettled) == ((6, 0) if n_cut == 1 else (5, 1))
        assert spent.settled_usd + spent.unsettled_usd >= server.usd - 1e-9


@pytest.mark.parametrize("code", [408, 499, 502, 504, 524])
def test_a_batch_whose_creation_a_gateway_gave_up_on_is_found_though_it_is_listed_late(
    code: int, tmp_path: Path
) -> None:
    with BillingServer() as server:
        server.on_create = take_behind_a_gateway(code)
        server.unlisted_looks = 2
        teacher = Teacher(server, tmp_path / "store")
        assert {reply.status for reply in teacher.ask(questions(7))} == {"ok"}
        assert n_handed_over(server) == 7
        check_books(server, teacher.ledger.spent())


def test_odd_entries_of_the_list_of_batches_do_not_hide_the_one_that_is_looked_for(tmp_path: Path) -> None:
    with BillingServer() as server:
        server.on_create = take_and_reset
        listed = server._state
        server._state = lambda name, look=True: (
            listed(name, look=look)
            | (  # type: ignore[method-assign]
                {} if look else {"created_at": "yesterday", "request_counts": None}
            )
        )
        teacher = Teacher(server, tmp_path / "store")
        assert {reply.status for reply in teacher.ask(questions(7))} == {"ok"}
        assert n_handed_over(server) == 7


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
