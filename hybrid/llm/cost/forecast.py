"""What requests would cost, before any is sent: a range, taken from the model's earlier calls where there are enough."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from hybrid.llm.cost.prices import Price
from hybrid.llm.cost.pricing import Pricing
from hybrid.llm.messages_format import most_output_tokens, prompt_bytes
from hybrid.llm.request import Reply, Request, key
from hybrid.llm.traces.database import TraceDatabase

MIN_CALLS = 30
"""Earlier calls that a range needs."""
RECENT_CALLS = 2000
"""The most earlier calls that a range is taken from."""
BYTES_A_TOKEN = (2.0, 5.0)
"""Assumed without earlier calls: from dense scripts to plain English."""
SHORTEST_ANSWER = 12
"""Tokens of the shortest JSON object that holds a label."""


class Range(NamedTuple):
    """Lowest and highest."""

    low: float
    high: float


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """Calls, tokens and cost of one step."""

    step: str
    calls: Range
    input_tokens: Range
    output_tokens: Range
    cost_usd: Range | None
    """None where the price is not known."""


class TokenStats(msgspec.Struct, frozen=True, kw_only=True):
    """How many tokens a model counts for a prompt, and how many it answers with."""

    tokens_a_byte: Range
    output_tokens: Range | None = None
    """Tokens of an answer; None where not known."""
    calls: int = 0
    """Earlier calls that the ranges were taken from; 0 where they are assumed."""


class DryRunLLM:
    """Stands in for a model and answers nothing, so that the requests of a run can be counted."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.requests: list[Request] = []

    def ask(self, request: Request) -> Reply:
        """Record the request and refuse it, so that no later request depends on an answer."""
        self.requests.append(request)
        return Reply(status="refused", reason="nothing is sent", model=self.name, cost_usd=0.0)


def token_stats(file: TraceDatabase | None, model: str) -> TokenStats:
    """The tokens of a model's recent calls, from the 10th to the 90th percentile; assumed ones where there are too few."""
    rows = file.read(
        "SELECT bytes, input_tokens + cache_write_tokens + cache_read_tokens, output_tokens FROM calls "
        "WHERE model = ? AND state = 'billed' AND bytes > 0 ORDER BY id DESC LIMIT ?",
        (model, RECENT_CALLS),
    ) if file else []  # fmt: skip
    if len(rows) < MIN_CALLS:
        return TokenStats(tokens_a_byte=Range(1 / BYTES_A_TOKEN[1], 1 / BYTES_A_TOKEN[0]))
    return TokenStats(
        tokens_a_byte=_middle([tokens / n_bytes for n_bytes, tokens, _ in rows]),
        output_tokens=_middle([float(written) for _, _, written in rows]),
        calls=len(rows),
    )


def open_requests(requests: Sequence[Request], model: str, file: TraceDatabase | None) -> list[Request]:
    """The requests that the store has no answer to, each once."""
    unique = {key(model, request): request for request in requests}
    if file is None:
        return list(unique.values())
    known = {digest for (digest,) in file.read("SELECT key FROM answers WHERE model = ?", (model,))}
    return [request for digest, request in unique.items() if digest not in known]


def forecast(
    step: str, requests: Sequence[Request], terms: Pricing, habits: TokenStats, *, fewest: int | None = None
) -> Forecast:
    """What `requests` would cost, where at least `fewest` of them are asked (None: all).

    The low end reads the fixed part of a prompt from the provider's cache where it may be there; the high end never
    does.
    """
    share = 1.0 if fewest is None or not requests else fewest / len(requests)
    n_bytes = sum(prompt_bytes(request) for request in requests)
    fixed = n_bytes - sum(len(request.user.encode("utf-8", "surrogatepass")) for request in requests)
    known = habits.output_tokens
    written = Range(
        sum(known.low if known else min(SHORTEST_ANSWER, most_output_tokens(r)) for r in requests) * share,
        sum(min(known.high, most_output_tokens(r)) if known else most_output_tokens(r) for r in requests),
    )
    read = Range(n_bytes * habits.tokens_a_byte.low * share, n_bytes * habits.tokens_a_byte.high)
    return Forecast(
        step=step,
        calls=Range(len(requests) * share, len(requests)),
        input_tokens=read,
        output_tokens=written,
        cost_usd=_cost(terms, terms.price, read, written, fixed / n_bytes if n_bytes else 0.0),
    )


def total(step: str, parts: Sequence[Forecast]) -> Forecast:
    """The sum of forecasts."""
    costs = [part.cost_usd for part in parts]
    return Forecast(
        step=step,
        calls=_sum([part.calls for part in parts]),
        input_tokens=_sum([part.input_tokens for part in parts]),
        output_tokens=_sum([part.output_tokens for part in parts]),
        cost_usd=None if None in costs else _sum([cost for cost in costs if cost]),
    )


def _cost(terms: Pricing, price: Price | None, read: Range, written: Range, fixed: float) -> Range | None:
    if price is None or (terms.batch and price.batch is None):
        return None
    discount = (price.batch or 0.0) if terms.batch else 1.0
    cached = price.cache_read if terms.cache and price.cache_read is not None else price.input
    low = read.low * (fixed * min(cached, price.input) + (1 - fixed) * price.input) + written.low * price.output
    high = read.high * price.input + written.high * price.output
    return Range(low * discount / 1e6, high * discount / 1e6)


def _middle(values: list[float]) -> Range:
    ordered = sorted(values)
    return Range(ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10])


def _sum(ranges: Sequence[Range]) -> Range:
    return Range(sum(low for low, _ in ranges), sum(high for _, high in ranges))
