"""What the decoder may cost an hour and a day is never crossed: not by many at once, nor over restarts."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sql

from hybrid.config import LLMConfig
from hybrid.errors import BudgetError
from hybrid.llm.cost.prices import Price
from hybrid.llm.cost.pricing import HOUR_S, Pricing
from hybrid.llm.request import Reply, Request
from hybrid.llm.tasks.label import label_request
from hybrid.review.escalations import open_store, read_escalations
from serving.decoder.spend_cap import SpendCap, UnbookedCallError
from tests.billing_server import PRICE, BillingServer, billed, cut_in_mid_body, gateway_page, on_schedule
from tests.messages_server import Act, status
from tests.serving.escalation_fixtures import RecordingObserver, escalated, opened

PRICES = "[models]\njudge = { input = 100, output = 500, cache_write = 125, cache_read = 10, batch = 0.5 }\n"
PRICING = Pricing(model="judge", role="decoder", price=Price(**PRICE))


def limited(**limits: float) -> Pricing:
    return msgspec.structs.replace(PRICING, **limits)


def worst_usd(text: str = "The soup.") -> float:
    return (PRICING.worst_nano(request(text)) or 0) / 1e9


def request(text: str = "The soup.") -> Request:
    return label_request("decide", text, ("bad", "good", "plain"), LLMConfig(max_tokens=60))


def says_bad(text: str) -> str:
    return '{"rationale": "It was cold.", "label": "bad", "confidence": 0.9}'


async def ask(folder: Path, url: str, texts: range, *, at_once: bool = True, **decoder: Any) -> list[str]:
    """Return how the questions about the texts ended."""
    observer = RecordingObserver()
    prices = folder / "prices.toml"
    prices.write_text(PRICES)
    settings = {"retries": 1, "waiting": 500, "breaker_failures": 500} | decoder
    handler = opened(folder, url, observer, prices=str(prices), max_tokens=60, **settings)
    if at_once:
        await asyncio.gather(*(escalated(handler, f"Dish {i:03}.") for i in texts))
    else:
        for i in texts:
            await escalated(handler, f"Dish {i:03}.")
    await handler.close()
    return observer.outcomes


def test_many_at_once_cannot_cross_the_cap_together(tmp_path: Path) -> None:
    cap = 3 * worst_usd()
    with BillingServer(billed(), say=says_bad) as server:
        outcomes = asyncio.run(ask(tmp_path, server.url, range(60), usd_per_day=cap))
        assert set(outcomes) == {"answered", "refused_by_spend"}
        assert 0 < server.usd <= cap
    (tmp_path / "free").mkdir()
    with BillingServer(billed(), say=says_bad) as server:
        assert set(asyncio.run(ask(tmp_path / "free", server.url, range(60)))) == {"answered"}
        assert server.usd > cap


def test_the_cap_is_used_to_within_one_call_at_its_worst_and_holds_over_a_restart(tmp_path: Path) -> None:
    cap = 1.5 * worst_usd()
    with BillingServer(billed(), say=says_bad) as server:
        outcomes = asyncio.run(ask(tmp_path, server.url, range(20), at_once=False, usd_per_day=cap))
        n_answered = outcomes.count("answered")
        assert outcomes == ["answered"] * n_answered + ["refused_by_spend"] * (20 - n_answered)
        assert cap - worst_usd() < server.usd <= cap
        again = asyncio.run(ask(tmp_path, server.url, range(20, 25), at_once=False, usd_per_day=cap))
        assert again == ["refused_by_spend"] * 5
        raised = asyncio.run(ask(tmp_path, server.url, range(20, 25), at_once=False, usd_per_day=99))
        assert raised == ["answered"] * 5


def test_what_was_lost_on_the_way_counts_at_its_worst(tmp_path: Path) -> None:
    cap = 6 * worst_usd()
    acts: list[Act] = [billed(), cut_in_mid_body, status(500), *map(gateway_page, (408, 502, 504, 524))]
    with BillingServer(on_schedule(*acts)) as server:
        asyncio.run(ask(tmp_path, server.url, range(40), usd_per_hour=cap))
        assert server.n_undelivered > 0
        assert server.usd <= cap
        books = SpendCap(open_store(str(tmp_path / "escalations.sqlite")), limited(usd_per_hour=cap))
        assert server.usd <= books.ledger.spent(HOUR_S).settled_usd <= cap


def test_a_caller_learns_that_the_cap_is_reached_and_only_the_operator_what_was_spent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def refused(url: str) -> str:
        (tmp_path / "prices.toml").write_text(PRICES)
        prices = str(tmp_path / "prices.toml")
        handler = opened(tmp_path, url, prices=prices, max_tokens=60, usd_per_hour=worst_usd() / 2)
        answers = [await escalated(handler, text) for text in ("The soup.", "The tart.")]
        await handler.close()
        assert answers[0].reason == answers[1].reason
        return answers[0].reason

    with caplog.at_level(logging.WARNING), BillingServer(billed(), say=says_bad) as server:
        assert asyncio.run(refused(server.url)) == "spend_cap_reached"
    rows = read_escalations(open_store(str(tmp_path / "escalations.sqlite")))
    assert all("decoder.usd_per_hour = " in row.reason and "0.0000 USD are spent" in row.reason for row in rows)
    logged = [record.getMessage() for record in caplog.records if record.name == "serving.decoder.client"]
    assert logged == [rows[0].reason], "one line, however many texts are refused"


def test_an_answer_frees_what_it_did_not_cost_and_the_next_refusal_names_the_setting(tmp_path: Path) -> None:
    cap = SpendCap(open_store(str(tmp_path / "store.sqlite")), limited(usd_per_hour=1.5 * worst_usd()))
    first = cap.reserve(request())
    with pytest.raises(BudgetError, match=r"^the decoder was not asked: decoder.usd_per_hour = .* USD$"):
        cap.reserve(request())
    cap.settle(first, request(), Reply(status="ok", text="x", model="judge", cost_usd=0.001))
    assert cap.ledger.spent(HOUR_S).settled_usd == pytest.approx(0.001)
    cap.free(cap.reserve(request()))
    cap.lose(cap.reserve(request()))
    with pytest.raises(BudgetError):
        cap.reserve(request())


def test_a_store_that_does_not_answer_stops_the_spending_and_no_answer_that_was_paid_for(tmp_path: Path) -> None:
    engine = open_store(str(tmp_path / "store.sqlite"))
    cap = SpendCap(engine, limited(usd_per_hour=10.0))
    call = cap.reserve(request())
    with engine.begin() as db:
        db.execute(sql.text("DROP TABLE decoder_calls"))
    cap.settle(call, request(), Reply(status="ok", text="x", model="judge", cost_usd=0.001))
    with pytest.raises(UnbookedCallError, match="spending cannot be booked"):
        cap.reserve(request())
