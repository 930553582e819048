"""Stores that an earlier version wrote open with all that they hold: the rows for review, the answers, and the money spent."""

import shutil
from pathlib import Path

from hybrid.llm.cost.prices import Price
from hybrid.llm.cost.pricing import Pricing
from hybrid.llm.cost.trace_ledger import run_ledger
from hybrid.llm.traces.database import TraceDatabase
from hybrid.review.escalations import open_store, read_escalations, write_escalations

GOLDEN = Path(__file__).parent / "golden"
PRICE = Price(input=100.0, output=500.0, cache_write=125.0, cache_read=10.0, batch=0.5)


def test_a_review_store_of_version_1_opens_with_every_row_and_takes_more(tmp_path: Path) -> None:
    store = shutil.copy(GOLDEN / "escalations.sqlite", tmp_path)
    engine = open_store(str(store))
    rows = read_escalations(engine)
    assert [(row.at, row.text, row.outcome, row.answer_label, row.cost_usd) for row in rows] == [
        (1_790_000_001.5, "The soup was cold.", "answered", "bad", 0.25),
        (1_790_000_002.5, "Zur Suppe: na ja \u2028 \U0001f372", "undecided", "good", 0.125),
        (1_790_000_003.5, "The tart.", "failed", None, None),
        (1_790_000_004.5, "The fish.", "refused_by_breaker", "good", 0.0),
        (1_790_000_005.5, "The rice.", "refused_by_spend", "good", 0.0),
    ]
    first = rows[0]
    assert (first.bundle_id, first.encoder_label, first.encoder_confidence) == ("0123456789ab", "good", 0.6)
    assert (first.probs, first.decoder) == ({"bad": 0.3, "good": 0.6, "plain": 0.1}, "judge")
    assert (first.decoder_label, first.decoder_confidence, first.rationale) == ("bad", 0.9, "It was cold.")
    assert (first.reason, first.seconds, rows[2].seconds) == ("", 0.75, 8.0)
    assert rows[1].reason == "'excellent' is not a label"
    write_escalations(engine, rows[:1])
    assert read_escalations(engine) == [*rows, rows[0]]


def test_a_trace_store_without_a_version_opens_with_what_each_role_has_spent(tmp_path: Path) -> None:
    file = TraceDatabase(Path(shutil.copy(GOLDEN / "traces.sqlite", tmp_path)))
    teacher = run_ledger(file, Pricing(model="judge", role="teacher", price=PRICE, cache=True)).spent()
    assert (teacher.calls, teacher.settled_usd, teacher.input_tokens, teacher.output_tokens) == (1, 0.25, 100, 20)
    assert (teacher.unsettled, teacher.unsettled_usd) == (4, 0.956625)
    decoder = run_ledger(file, Pricing(model="judge", role="decoder", price=PRICE)).spent()
    assert (decoder.calls, decoder.settled_usd, decoder.unsettled) == (1, 0.0625, 0)
