"""What a run would cost, said before anything is spent, and ways to spend less."""

from pathlib import Path

import msgspec
import pytest

from hybrid.llm import CachedLLM, Request, ask_all
from hybrid.llm.client.messages import Messages
from hybrid.llm.cost.forecast import DryRunLLM, TokenStats, forecast, open_requests, token_stats
from hybrid.llm.cost.prices import Price
from hybrid.llm.cost.pricing import Spent
from hybrid.llm.cost.trace_ledger import run_ledger
from hybrid.llm.traces.database import TraceDatabase
from hybrid.pipeline.estimate import CostModel, plans, suspects_of
from hybrid.recipe import main
from hybrid.types import Example
from tests.billing_server import PRICES_TOML, BillingServer
from tests.conftest import write_project
from tests.test_faults import questions, terms

MODEL = 'model = "m"\nbase_url = "{url}"\nprices = "prices.toml"\n'


def ask(server: BillingServer, path: Path, requests: list[Request]) -> float:
    """Return what the server bills for questions, in USD."""
    file, before = TraceDatabase(path), server.usd
    llm = CachedLLM(Messages("m", base_url=server.url, ledger=run_ledger(file, terms())), file)
    ask_all(requests, llm, 4)
    return server.usd - before


def test_the_bill_lies_in_the_range_and_earlier_calls_narrow_it(tmp_path: Path) -> None:
    store = tmp_path / "store"
    first, second = questions(80)[:40], questions(80)[40:]
    with BillingServer() as server:
        assumed = forecast("verify", first, terms(), token_stats(None, "m"))
        paid = ask(server, store, first)
        assert assumed.cost_usd is not None
        assert assumed.cost_usd.low < paid < assumed.cost_usd.high
        habits = token_stats(TraceDatabase(store), "m")
        known = forecast("verify", second, terms(), habits)
        paid = ask(server, store, second)
    assert habits.calls == 40
    assert known.cost_usd is not None
    assert known.cost_usd.low < paid < known.cost_usd.high
    assert known.cost_usd.high - known.cost_usd.low < 0.8 * (assumed.cost_usd.high - assumed.cost_usd.low)


def test_what_the_store_has_is_not_counted_again(tmp_path: Path) -> None:
    requests = questions(12)
    with BillingServer() as server:
        ask(server, tmp_path / "store", requests[:5])
    left = open_requests([*requests, requests[11]], "m", TraceDatabase(tmp_path / "store"))
    assert left == requests[5:]


def desk(budget_usd: float) -> CostModel:
    return CostModel(pricing=terms(budget_usd), tokens=token_stats(None, "m"), file=None)


def test_a_plan_says_what_each_way_of_asking_less_costs_and_all_cost_less() -> None:
    votes = [msgspec.structs.replace(request, sample=n) for request in questions(40) for n in range(3)]
    prices = {
        "half": Price(input=50, output=250),
        "tiny": Price(input=1, output=5),
        "dear": Price(input=90, output=400),
    }
    suspects = {request.text for request in votes[:30]}
    whole = desk(1.0).forecast("verify", votes).cost_usd
    found = plans(desk(1.0), votes, suspects, prices)
    assert whole is not None
    assert [plan.setting.partition("=")[0] for plan in found] == [
        "--set verify.votes",
        "--set teacher.batch",
        "--teacher half",
        "--teacher tiny",
        "--set verify.max_calls",
        "--set verify.max_calls",
    ]
    assert all(plan.cost_usd.high < whole.high for plan in found)
    assert found[0].cost_usd.high == pytest.approx(whole.high / 3)
    assert found[1].cost_usd.high == pytest.approx(whole.high / 2)
    assert found[4].setting == "--set verify.max_calls=30"
    assert found[5].cost_usd.high <= 1.0


def test_money_that_is_spent_leaves_fewer_rows_that_fit() -> None:
    votes = questions(40)
    spent = msgspec.structs.replace(desk(1.0), spent=Spent(settled_usd=0.3, unsettled_usd=0.2))
    fresh, later = (plans(at, votes, set(), {})[-1].cost_usd.high for at in (desk(1.0), spent))
    assert later <= 0.5 < fresh


def test_rows_with_a_wrong_label_are_among_the_suspects() -> None:
    words = {"good": "lovely superb tasty", "bad": "awful stale cold"}
    rows = [
        Example(id=str(i), text=f"{words[name]} dish {i}", label=name) for i, name in enumerate(["good", "bad"] * 20)
    ]
    wrong = msgspec.structs.replace(rows[0], label="bad")
    assert suspects_of([wrong, *rows[1:]]) == {wrong.text}


def test_a_rehearsal_answers_nothing() -> None:
    rehearsal = DryRunLLM("m")
    replies = ask_all(questions(3), rehearsal, 2)
    assert {reply.status for reply in replies} == {"refused"}
    assert len(rehearsal.requests) == 3
    assert TokenStats(tokens_a_byte=token_stats(None, "m").tokens_a_byte).calls == 0


def estimate(server: BillingServer, folder: Path, extra: str) -> None:
    """Ask by the command what a small project with these sections costs; nothing may be sent."""
    recipe = write_project(folder / "dishes", folder, extra=extra)
    (folder / "dishes" / "prices.toml").write_text(PRICES_TOML)
    assert main([str(recipe), "--estimate", "--runs", str(folder / "runs")]) == 0
    assert server.bodies == []


@pytest.mark.slow
def test_the_command_says_what_a_run_costs_and_sends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with BillingServer() as server:
        model = MODEL.format(url=server.url)
        extra = f"[teacher]\n{model}budget_usd = 1.0\n[verify]\nvotes = 3\n[decoder]\n{model}"
        estimate(server, tmp_path, extra)
    said = capsys.readouterr().out
    assert "verify                 720" in said
    assert "calibrate               90" in said
    assert "decoder               0-90" in said
    assert "teacher.budget_usd = 1: 0.0000 USD are spent or held" in said
    assert "--set verify.votes=1" in said
    assert not (tmp_path / "runs" / "dishes" / "traces.sqlite").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("more", "step"), [("votes", "again"), ("second", "second")])
def test_calls_after_the_first_votes_count_as_possible(
    more: str, step: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with BillingServer() as server:
        model = MODEL.format(url=server.url)
        extra = f'[teacher]\n{model}[second]\n{model}[verify]\nmore_calls = 40\nmore = "{more}"\n'
        estimate(server, tmp_path, extra)
    counts = {
        line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines() if len(line.split()) > 3
    }
    assert counts["verify"] == "240"
    assert counts[step] == "0-40"
