"""One ledger of money, over the store of a run and over that of a service: the same rules, windows and words."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql

from hybrid.config import LLMConfig
from hybrid.errors import BudgetError, ConfigError, StorageError
from hybrid.llm.cost.ledger import Ledger
from hybrid.llm.cost.prices import Price
from hybrid.llm.cost.pricing import DAY_S, HOUR_S, Pricing
from hybrid.llm.cost.trace_ledger import TraceStore
from hybrid.llm.request import Reply
from hybrid.llm.tasks.label import label_request
from hybrid.llm.traces.database import TraceDatabase
from hybrid.review.escalations import calls, open_store
from serving.decoder.spend_cap import CallStore

GOLDEN = Path(__file__).parent / "golden"
GOLDEN_END = 1_790_000_000.0 + 2 * HOUR_S
PRICE = Price(input=100.0, output=500.0)
REQUEST = label_request("decide", "The soup.", ("bad", "good"), LLMConfig(max_tokens=60))
Open = Callable[..., Ledger[Any]]


class Clock:
    """A clock that stands until it is set."""

    def __init__(self, now: float = GOLDEN_END) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def priced(**limits: float) -> Pricing:
    return Pricing(model="judge", role="decoder", price=PRICE, **limits)


WORST_USD = (priced().worst_nano(REQUEST) or 0) / 1e9


def reply(usd: float | None) -> Reply:
    return Reply(status="ok", text="x", model="judge", cost_usd=usd)


@pytest.fixture(params=["run", "service"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Open a ledger on a store of either kind, the same store each time."""

    def ledger(clock: Clock | None = None, **limits: float) -> Ledger[Any]:
        store: TraceStore | CallStore
        if request.param == "run":
            store = TraceStore(TraceDatabase(tmp_path / "traces.sqlite"), role="decoder", model="judge")
        else:
            store = CallStore(open_store(str(tmp_path / "escalations.sqlite")))
        return Ledger(store, priced(**limits), waits=False, clock=clock or Clock())

    return ledger


def total_usd(ledger: Ledger[Any], window_s: float | None = None) -> float:
    spent = ledger.spent(window_s)
    return spent.settled_usd + spent.unsettled_usd


def test_a_call_counts_at_its_worst_until_it_is_settled_and_not_at_all_once_it_is_freed(opened: Open) -> None:
    ledger = opened()
    settled, freed, lost, unpriced = (ledger.reserve(REQUEST) for _ in range(4))
    assert total_usd(ledger) == pytest.approx(4 * WORST_USD)
    ledger.settle(settled, REQUEST, reply(0.001))
    ledger.free(freed)
    assert total_usd(ledger) == pytest.approx(0.001 + 2 * WORST_USD)
    ledger.lose(lost)
    ledger.settle(unpriced, REQUEST, reply(None))
    assert total_usd(ledger) == pytest.approx(0.001 + 2 * WORST_USD)


@pytest.mark.parametrize(
    ("limit", "window"),
    [("budget_usd", ""), ("usd_per_hour", " in the last hour"), ("usd_per_day", " in the last day")],
)
def test_a_limit_is_used_to_within_one_call_at_its_worst_and_the_refusal_names_it(
    limit: str, window: str, opened: Open
) -> None:
    ledger = opened(**{limit: 2.5 * WORST_USD})
    ledger.settle(ledger.reserve(REQUEST), REQUEST, reply(WORST_USD))
    ledger.settle(ledger.reserve(REQUEST), REQUEST, reply(WORST_USD))
    with pytest.raises(BudgetError) as error:
        ledger.reserve(REQUEST)
    spent = f"{2 * WORST_USD:.4f} USD are spent{window}, and the next call could cost {WORST_USD:.4f} USD"
    assert f"decoder.{limit} = {2.5 * WORST_USD:g}: {spent}; raise decoder.{limit}, " in str(error.value)
    assert total_usd(ledger) == pytest.approx(2 * WORST_USD)


def test_the_limit_of_which_the_least_is_left_is_the_one_that_is_named(opened: Open) -> None:
    ledger = opened(budget_usd=9.0, usd_per_hour=3.0, usd_per_day=0.5 * WORST_USD)
    with pytest.raises(BudgetError, match=r"^decoder\.usd_per_day = "):
        ledger.reserve(REQUEST)


@pytest.mark.parametrize(("limit", "window_s"), [("usd_per_hour", HOUR_S), ("usd_per_day", DAY_S)])
def test_a_call_weighs_until_its_window_is_over(limit: str, window_s: float, opened: Open) -> None:
    clock = Clock()
    ledger = opened(clock, **{limit: 1.5 * WORST_USD})
    ledger.reserve(REQUEST)
    clock.now += window_s - 1
    with pytest.raises(BudgetError):
        ledger.reserve(REQUEST)
    clock.now += 2
    ledger.reserve(REQUEST)


def test_a_budget_over_all_time_forgets_no_call_however_old(opened: Open) -> None:
    clock = Clock()
    ledger = opened(clock, budget_usd=4.5 * WORST_USD)
    for _ in range(4):
        ledger.settle(ledger.reserve(REQUEST), REQUEST, reply(WORST_USD))
        clock.now += 3 * DAY_S
    assert total_usd(ledger) == pytest.approx(4 * WORST_USD)
    assert total_usd(ledger, DAY_S) == 0
    with pytest.raises(BudgetError, match="budget_usd"):
        opened(clock, budget_usd=4.5 * WORST_USD).reserve(REQUEST)
    opened(clock, budget_usd=5.5 * WORST_USD).reserve(REQUEST)


def test_without_a_limit_nothing_is_refused_and_everything_is_counted(opened: Open) -> None:
    ledger = opened()
    for _ in range(20):
        ledger.reserve(REQUEST)
    assert total_usd(opened()) == pytest.approx(20 * WORST_USD)


def test_a_prompt_that_no_price_covers_is_not_sent_where_there_is_a_limit(opened: Open) -> None:
    short = Price(input=100.0, output=500.0, up_to=1)
    ledger = opened(usd_per_day=99.0)
    unpriced = Ledger(ledger.store, Pricing(model="judge", role="decoder", price=short, usd_per_day=99.0))
    with pytest.raises(BudgetError, match="no price is known for a prompt that may be so long"):
        unpriced.reserve(REQUEST)
    Ledger(ledger.store, Pricing(model="judge", role="decoder", price=short)).reserve(REQUEST)


@pytest.mark.parametrize("limit", ["budget_usd", "usd_per_hour", "usd_per_day"])
def test_a_limit_on_a_model_without_a_price_is_an_error_of_the_settings(limit: str) -> None:
    unknown = Pricing(model="judge", role="decoder", **{limit: 1.0})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=rf"decoder\.{limit} = 1: the price of the model \(judge\) is not known"):
        unknown.check()
    no_cache_price = Pricing(model="judge", role="decoder", price=PRICE, cache=True, **{limit: 1.0})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="its price of cache_write"):
        no_cache_price.check()
    Pricing(model="judge", role="decoder").check()


def test_a_service_of_today_goes_on_with_what_one_of_an_earlier_version_spent(tmp_path: Path) -> None:
    engine = open_store(str(shutil.copy(GOLDEN / "escalations.sqlite", tmp_path)))
    clock = Clock()
    ledger = Ledger(CallStore(engine), priced(usd_per_hour=0.7), waits=False, clock=clock)
    assert total_usd(ledger, HOUR_S) == 0.6472
    assert total_usd(ledger, DAY_S) == total_usd(ledger) == 0.8972
    with pytest.raises(BudgetError, match=r"decoder.usd_per_hour = 0.7: 0.6472 USD are spent in the last hour"):
        ledger.reserve(REQUEST)
    clock.now += 2 * DAY_S
    call = ledger.reserve(REQUEST)
    ledger.settle(call, REQUEST, reply(0.0625))
    assert total_usd(ledger, DAY_S) == 0.0625
    assert total_usd(ledger) == 0.9597
    with engine.connect() as db:
        assert db.execute(sql.select(sql.func.count()).select_from(calls)).scalar_one() == 2


def test_a_run_of_today_goes_on_with_what_one_of_an_earlier_version_spent(tmp_path: Path) -> None:
    file = TraceDatabase(Path(shutil.copy(GOLDEN / "traces.sqlite", tmp_path)))
    pricing = Pricing(model="judge", role="teacher", price=PRICE, budget_usd=1.5)
    ledger = Ledger(TraceStore(file, role="teacher", model="judge"), pricing, clock=Clock())
    spent = "0.2500 USD are spent and up to 0.9566 USD for 4 calls without an answer"
    assert spent in str(ledger.refusal(REQUEST))
    with pytest.raises(BudgetError, match=r"^teacher\.budget_usd = 1\.5: .*; raise teacher\.budget_usd"):
        for _ in range(9):
            ledger.free(ledger.reserve(REQUEST))
            ledger.lose(ledger.reserve(REQUEST))
    assert 1.5 - WORST_USD < total_usd(ledger) <= 1.5


def test_a_store_that_is_gone_is_an_error_and_not_a_call_that_nobody_booked(tmp_path: Path) -> None:
    engine = open_store(str(tmp_path / "escalations.sqlite"))
    ledger = Ledger(CallStore(engine), priced(usd_per_day=1.0), waits=False)
    with engine.begin() as db:
        db.execute(sql.text("DROP TABLE decoder_calls"))
    with pytest.raises(StorageError, match="the decoder's spending cannot be booked"):
        ledger.reserve(REQUEST)


def test_the_ledger_of_a_run_needs_no_database_library() -> None:
    code = "import sys; sys.modules['sqlalchemy'] = None; import hybrid.llm, hybrid.llm.cost.trace_ledger"
    subprocess.run([sys.executable, "-c", code], check=True)
