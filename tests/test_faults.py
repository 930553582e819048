"""A server that misbehaves on a schedule: every row is accounted for, and the ledger is the server's own count."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from hybrid.config import LLMConfig
from hybrid.errors import BudgetError, StorageError
from hybrid.llm import Request, ask_all, key
from hybrid.llm.client.messages import Messages
from hybrid.llm.client.retry import Retry
from hybrid.llm.cost.prices import Price
from hybrid.llm.cost.pricing import Pricing, Spent
from hybrid.llm.cost.trace_ledger import run_ledger
from hybrid.llm.request import Reply
from hybrid.llm.tasks.label import label_request, read_vote
from hybrid.llm.traces.cache import CachedLLM
from hybrid.llm.traces.database import TraceDatabase
from tests.billing_server import (
    PRICE,
    BillingServer,
    billed,
    cut_in_mid_body,
    gateway_page,
    not_json,
    on_schedule,
    too_late,
)
from tests.messages_server import Act, reset, status

LABELS = ("negative", "positive")
CONFIG = LLMConfig(max_tokens=60)
FAST = Retry(tries=8, first_wait_s=0.01)


def questions(n: int) -> list[Request]:
    return [label_request("verify", f"The {i}th day was lovely", LABELS, CONFIG) for i in range(n)]


def terms(budget_usd: float | None = None, *, batch: bool = False, cache: bool = True) -> Pricing:
    return Pricing(model="m", role="teacher", price=Price(**PRICE), cache=cache, batch=batch, budget_usd=budget_usd)


class Teacher:
    """A client, its store and its ledger on one file."""

    def __init__(
        self, server: "BillingServer | Address", path: Path, budget_usd: float | None = None, timeout_s: float = 5.0
    ) -> None:
        file = TraceDatabase(path)
        self.ledger = run_ledger(file, terms(budget_usd))
        messages = Messages("m", base_url=server.url, timeout_s=timeout_s, workers=8, retry=FAST, ledger=self.ledger)
        self.llm = CachedLLM(messages, file)

    def ask(self, requests: list[Request]) -> list[Reply]:
        return ask_all(requests, self.llm, 8)


def check_books(server: BillingServer, spent: Spent) -> None:
    """The ledger is the server's count to the token; what was lost on the way is counted at its worst."""
    assert spent.input_tokens == server.delivered["input_tokens"]
    assert spent.output_tokens == server.delivered["output_tokens"]
    assert spent.cache_write_tokens == server.delivered["cache_creation_input_tokens"]
    assert spent.cache_read_tokens == server.delivered["cache_read_input_tokens"]
    assert spent.settled_usd == pytest.approx(server.usd - server.undelivered_usd, abs=1e-7)
    assert spent.unsettled >= server.n_undelivered
    assert spent.unsettled_usd >= server.undelivered_usd


@pytest.mark.parametrize(
    "fault",
    [
        status(429),
        status(429, headers={"Retry-After": "0.02"}),
        status(529),
        status(500),
        status(503),
        status(408),
    ],
    ids=["429", "429 with Retry-After", "529", "500", "503", "408"],
)
def test_an_error_that_passes_costs_nothing_and_loses_no_row(fault: Act, tmp_path: Path) -> None:
    with BillingServer(on_schedule(fault, billed(), billed())) as server:
        teacher = Teacher(server, tmp_path / "store")
        replies = teacher.ask(questions(30))
        spent = teacher.ledger.spent()
        assert [reply.status for reply in replies] == ["ok"] * 30
        assert set(server.answers.values()) == {1}
        check_books(server, spent)
        assert (spent.calls, spent.unsettled, server.n_undelivered) == (30, 0, 0)


@pytest.mark.parametrize("fault", [cut_in_mid_body, not_json, reset], ids=["cut in mid-body", "not JSON", "reset"])
def test_an_answer_that_is_lost_on_the_way_is_counted_at_its_worst_and_asked_for_again(
    fault: Act, tmp_path: Path
) -> None:
    with BillingServer(on_schedule(billed(), fault, billed())) as server:
        teacher = Teacher(server, tmp_path / "store")
        replies = teacher.ask(questions(20))
        assert [reply.status for reply in replies] == ["ok"] * 20
        assert teacher.ledger.spent().unsettled == len(server.bodies) - 20 > 0
        check_books(server, teacher.ledger.spent())


PAGES = (
    "<html>no</html>",
    '{"detail": "upstream timed out"}',
    '{"error": "no"}',
    '{"type": "error", "error": null}',
    "",
)


@pytest.mark.parametrize(
    ("code", "page"),
    [*((code, PAGES[0]) for code in (408, 429, 499, 500, 502, 503, 504, 520, 524, 529)), *((502, p) for p in PAGES)],
)
def test_a_gateways_page_does_not_say_that_the_call_was_not_billed(code: int, page: str, tmp_path: Path) -> None:
    with BillingServer(on_schedule(billed(), gateway_page(code, page), billed())) as server:
        teacher = Teacher(server, tmp_path / "store")
        teacher.ask(questions(15))
        spent = teacher.ledger.spent()
        assert spent.unsettled == server.n_undelivered > 0
        check_books(server, spent)


def test_a_gateways_pages_cannot_cross_the_budget(tmp_path: Path) -> None:
    with BillingServer(on_schedule(billed(), gateway_page(502), gateway_page(524), gateway_page(408))) as server:
        teacher = Teacher(server, tmp_path / "store", 1.0)
        with pytest.raises(BudgetError):
            teacher.ask(questions(200))
        assert server.usd <= 1.0
        check_books(server, teacher.ledger.spent())


@pytest.mark.parametrize(
    "usage",
    [
        None, [], "12", {}, {"input_tokens": "12", "output_tokens": "7"}, {"input_tokens": float("nan"), "output_tokens": 2},
        {"input_tokens": -400_000, "output_tokens": 5}, {"input_tokens": 10**15, "output_tokens": 1}, {"input_tokens": 12},
        {"input_tokens": 12, "output_tokens": None}, {"input_tokens": True, "output_tokens": True},
        {"input_tokens": [12], "output_tokens": {"n": 1}}, {"input_tokens": 12.5, "output_tokens": 1},
        {"input_tokens": 12, "output_tokens": 3, "cache_read_input_tokens": "many"}, {"input_tokens": 0, "output_tokens": 0},
        {"input_tokens": 12, "output_tokens": 3, "cache_creation_input_tokens": -1},
    ],
    ids=str,
)  # fmt: skip
def test_usage_that_no_call_can_have_counts_at_its_worst_and_is_kept_with_the_answer(
    usage: object, tmp_path: Path
) -> None:
    with BillingServer(billed(usage=usage)) as server:
        teacher = Teacher(server, tmp_path / "store")
        request = questions(1)[0]
        reply = teacher.llm.ask(request)
        worst_usd = (terms().worst_nano(request) or 0) / 1e9
        assert (reply.status, reply.cost_usd) == ("ok", worst_usd)
        assert str(reply.odd_usage) == repr(usage)[:100]
        spent = teacher.ledger.spent()
        assert spent.settled_usd == pytest.approx(worst_usd)
        assert spent.settled_usd > server.usd
        assert (teacher.llm.usage().odd_usage, teacher.llm.usage().cost_usd) == (1, worst_usd)
        assert Teacher(server, tmp_path / "store").llm.ask(request).odd_usage == reply.odd_usage
        assert sum(server.answers.values()) == 1


@pytest.mark.slow
def test_a_slow_answer_is_counted_at_its_worst_and_asked_for_again(tmp_path: Path) -> None:
    with BillingServer(on_schedule(billed(), too_late(4.5), billed(), billed(), billed())) as server:
        teacher = Teacher(server, tmp_path / "store", timeout_s=3.0)
        replies = teacher.ask(questions(12))
        assert [reply.status for reply in replies] == ["ok"] * 12
        check_books(server, teacher.ledger.spent())
        assert server.n_undelivered > 0


@pytest.mark.parametrize(
    ("fault", "vote"),
    [
        (billed(content=[{"type": "text", "text": '{"rationale": "r", "label": "posi'}]), "unreadable"),
        (billed(content=[{"type": "text", "text": '{"rationale": "r", "label": "glad"}'}]), "unreadable"),
        (billed(content=[]), "failed"),
        (billed(content=[], stop_reason="refusal"), "abstained"),
        (billed(stop_reason="max_tokens"), "failed"),
    ],
    ids=["malformed", "out of the set", "empty", "refusal", "truncated"],
)
def test_an_answer_that_is_none_is_billed_has_no_label_and_stops_nobody(fault: Act, vote: str, tmp_path: Path) -> None:
    with BillingServer(on_schedule(billed(), fault, billed())) as server:
        teacher = Teacher(server, tmp_path / "store")
        votes = [read_vote("1", reply, LABELS, teacher="m") for reply in teacher.ask(questions(15))]
        assert [v.status for v in votes].count("ok") == 10
        assert [v.status for v in votes].count(vote) == 5  # type: ignore[comparison-overlap]
        assert all((v.label is None) == (v.status != "ok") for v in votes)
        assert teacher.ledger.spent().calls == 15
        check_books(server, teacher.ledger.spent())


def test_a_budget_without_faults_is_used_to_within_one_call_at_its_worst(tmp_path: Path) -> None:
    with BillingServer() as server:
        teacher = Teacher(server, tmp_path / "store", 1.0)
        worst_usd = max(terms().worst_nano(request) or 0 for request in questions(200)) / 1e9
        with pytest.raises(BudgetError):
            teacher.ask(questions(200))
        assert 1.0 - worst_usd < server.usd <= 1.0
        assert teacher.ledger.spent().unsettled == 0
        check_books(server, teacher.ledger.spent())


def test_a_full_disk_stops_everybody_who_waits_for_the_budget(tmp_path: Path) -> None:
    with BillingServer() as server:
        teacher = Teacher(server, tmp_path / "store", 0.9)
        teacher.ask(questions(1))
        pages = teacher.llm.file.read("PRAGMA page_count")[0][0]
        teacher.llm.file.read(f"PRAGMA max_page_count={pages}")
        with pytest.raises(StorageError, match="full"):
            teacher.ask(questions(60))


SCHEDULE = (
    billed(), status(429, headers={"Retry-After": "0.01"}), billed(), cut_in_mid_body, status(500), billed(),
    status(529), not_json, billed(), reset, billed(stop_reason="max_tokens"), billed(),
)  # fmt: skip


def test_the_budget_holds_through_every_fault_and_what_was_paid_for_is_kept(tmp_path: Path) -> None:
    budget, path = 1.0, tmp_path / "store"
    with BillingServer(on_schedule(*SCHEDULE)) as server:
        teacher = Teacher(server, path, budget)
        with pytest.raises(BudgetError, match=r"teacher.budget_usd = 1: .* USD are spent.*raise teacher.budget_usd"):
            teacher.ask(questions(120))
        spent = teacher.ledger.spent()
        worst_usd = max(terms().worst_nano(request) or 0 for request in questions(120)) / 1e9
        assert server.usd <= budget < spent.settled_usd + spent.unsettled_usd + worst_usd
        check_books(server, teacher.ledger.spent())
        kept = {row[0] for row in teacher.llm.file.read("SELECT key FROM answers")}
        assert 2 < len(kept) < 120
        before = server.answers.copy()
        richer = Teacher(server, path, budget * 40)
        replies = richer.ask(questions(120))
        assert len(replies) == 120
        assert sum(reply.status == "ok" for reply in replies) > 90
        assert richer.llm.usage().hits == len(kept)
        stored_questions = [r.user for r in questions(120) if teacher.llm.find(key("m", r)) and key("m", r) in kept]
        assert all(server.answers[user] == before[user] for user in stored_questions)
        check_books(server, richer.ledger.spent())


ASKING = """
import sys
from pathlib import Path
from hybrid.errors import BudgetError
from tests.test_faults import Address, Teacher, questions
url, path, budget, first, last = sys.argv[1:]
try:
    replies = Teacher(Address(url), Path(path), float(budget), timeout_s=60.0).ask(questions(int(last))[int(first):])
except BudgetError as error:
    sys.exit(str(error))
"""


class Address:
    """Where a server is, for another process."""

    def __init__(self, url: str) -> None:
        self.url = url


def asking(server: BillingServer, path: Path, *, budget: float, rows: tuple[int, int]) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", ASKING, server.url, str(path), str(budget), *map(str, rows)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[1], stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_processes_on_one_store_cannot_cross_the_budget_together(tmp_path: Path) -> None:
    with BillingServer() as server:
        runs = [asking(server, tmp_path / "store", budget=1.0, rows=rows) for rows in ((0, 150), (150, 300))]
        for run in runs:
            _, said = run.communicate(timeout=120)
            assert run.returncode == 1, said
            assert "teacher.budget_usd = 1" in said
        spent = run_ledger(TraceDatabase(tmp_path / "store"), terms(1.0)).spent()
        worst_usd = max(terms().worst_nano(request) or 0 for request in questions(300)) / 1e9
        assert server.usd <= 1.0 < spent.settled_usd + worst_usd
        assert spent.unsettled == 0
        check_books(server, spent)


@pytest.mark.slow
def test_a_process_killed_again_and_again_loses_only_what_was_in_flight(tmp_path: Path) -> None:
    n_rows, workers, kills, path = 80, 8, 2, tmp_path / "store"

    def slowly(handler: Any, body: dict[str, Any]) -> None:
        time.sleep(0.02)
        on_the_way(handler, body)

    on_the_way = on_schedule(
        *[billed()] * 4, status(429), *[billed()] * 4, status(500), *[billed()] * 4, cut_in_mid_body
    )
    with BillingServer(slowly) as server:
        for number in range(1, kills + 1):
            run = asking(server, path, budget=100.0, rows=(0, n_rows))
            while len(server.bodies) < 30 * number and run.poll() is None:
                time.sleep(0.002)
            run.kill()
            assert run.wait() == -signal.SIGKILL
        time.sleep(0.3)
        before = server.answers.copy()
        teacher = Teacher(server, path, 100.0)
        kept = {r.user for r in questions(n_rows) if teacher.llm.find(key("m", r))}
        replies = teacher.ask(questions(n_rows))
        assert [reply.status for reply in replies] == ["ok"] * n_rows
        assert all(server.answers[user] == before[user] for user in kept)
        spent = teacher.ledger.spent()
        paid_again = sum(server.answers.values()) - n_rows
        assert paid_again <= spent.unsettled <= server.n_undelivered + kills * workers
        assert spent.settled_usd <= server.usd <= spent.settled_usd + spent.unsettled_usd <= 100.0
        assert spent.calls == teacher.llm.file.read("SELECT count(*) FROM answers")[0][0] == n_rows
