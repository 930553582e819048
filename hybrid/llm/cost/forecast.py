"""Forecasts what requests would cost before any is sent: a range, based on the model's earlier calls if there are enough."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from hybrid.llm.cost.prices import Price
from hybrid.llm.cost.pricing import Pricing
from hybrid.llm.messages_format import most_output_tokens, prompt_bytes
from hybrid.llm.request import Reply, Request, key
from hybrid.llm.traces.database import TraceDatabase

MIN_CALLS = 30
"""The fewest earlier calls on which a range is based."""
RECENT_CALLS = 2000
"""The most earlier calls on which a range is based."""
BYTES_A_TOKEN = (2.0, 5.0)
"""The range assumed without earlier calls: from dense scripts to plain English."""
SHORTEST_ANSWER = 12
"""The tokens of the shortest JSON object that holds a label."""


class Range(NamedTuple):
    """A low and a high estimate of the same figure."""

    low: float
    high: float


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """The forecast calls, tokens and cost of one step."""

    step: str
    calls: Range
    input_tokens: Range
    output_tokens: Range
    cost_usd: Range | None
    """None where the price is not known."""


class TokenStats(msgspec.Struct, frozen=True, kw_only=True):
    """How many tokens a model counts per byte of a prompt, and how many its answers have."""

    tokens_a_byte: Range
    output_tokens: Range | None = None
    """Tokens of an answer; None where not known."""
    calls: int = 0
    """The number of earlier calls on which the ranges are based; 0 if they are assumed."""


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
    """Measure the tokens of a model's recent calls, 10th to 90th percentile; the assumed ranges if there are too few calls."""
    rows = file.read(
        "SELECT bytes, input_tokens + cache_write_tokens + cache_read_tokens, output_tokens FROM calls "
        "WHERE model = ? AND state = 'billed' AND bytes > 0 ORDER BY id DESC LIMIT ?",
        (model, RECENT_CALLS),
    ) if file else []  # fmt: skip
    if len(rows) < MIN_CALLS:
        return TokenStats(tokens_a_byte=Range(1 / BYTES_A_TOKEN[1], 1 / BYTES_A_TOKEN[0]))
    return TokenStats(
        tokens_a_byte=_middle([tokens / n_bytes for n_bytes, tokens, _ in rows]),
        output_tokens=_middle([float(output_tokens) for _, _, output_tokens in rows]),
        calls=len(rows),
    )


def open_requests(requests: Sequence[Request], model: str, file: TraceDatabase | None) -> list[Request]:
    """Select the requests that the store has no answer to, each once."""
    unique = {key(model, request): request for request in requests}
    if file is None:
        return list(unique.values())
    answered = {digest for (digest,) in file.read("SELECT key FROM answers WHERE model = ?", (model,))}
    return [request for digest, request in unique.items() if digest not in answered]


def forecast(
    step: str, requests: Sequence[Request], pricing: Pricing, stats: TokenStats, *, fewest: int | None = None
) -> Forecast:
    """Forecast what `requests` would cost if at least `fewest` of them are sent (None: all).

    The low estimate assumes that the fixed part of a prompt is read from the provider's cache if caching is on; the high
    estimate assumes that it never is.
    """
    share = 1.0 if fewest is None or not requests else fewest / len(requests)
    n_bytes = sum(prompt_bytes(request) for request in requests)
    n_fixed_bytes = n_bytes - sum(len(request.user.encode("utf-8", "surrogatepass")) for request in requests)
    per_answer = stats.output_tokens
    output_tokens = Range(
        sum(per_answer.low if per_answer else min(SHORTEST_ANSWER, most_output_tokens(r)) for r in requests) * share,
        sum(min(per_answer.high, most_output_tokens(r)) if per_answer else most_output_tokens(r) for r in requests),
    )
    input_tokens = Range(n_bytes * stats.tokens_a_byte.low * share, n_bytes * stats.tokens_a_byte.high)
    fixed_share = n_fixed_bytes / n_bytes if n_bytes else 0.0
    return Forecast(
        step=step,
        calls=Range(len(requests) * share, len(requests)),
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cost_usd=_cost(pricing, pricing.price, input_tokens, output_tokens, fixed_share),
    )


def total(step: str, parts: Sequence[Forecast]) -> Forecast:
    """Add up the forecasts of the parts of a step; the cost is unknown if that of any part is."""
    costs = [part.cost_usd for part in parts]
    return Forecast(
        step=step,
        calls=_sum([part.calls for part in parts]),
        input_tokens=_sum([part.input_tokens for part in parts]),
        output_tokens=_sum([part.output_tokens for part in parts]),
        cost_usd=None if None in costs else _sum([cost for cost in costs if cost]),
    )


def _cost(
    pricing: Pricing, price: Price | None, input_tokens: Range, output_tokens: Range, fixed_share: float
) -> Range | None:
    if price is None or (pricing.batch and price.batch is None):
        return None
    factor = (price.batch or 0.0) if pricing.batch else 1.0
    cached = price.cache_read if pricing.cache and price.cache_read is not None else price.input
    low_price = fixed_share * min(cached, price.input) + (1 - fixed_share) * price.input
    low = input_tokens.low * low_price + output_tokens.low * price.output
    high = input_tokens.high * price.input + output_tokens.high * price.output
    return Range(low * factor / 1e6, high * factor / 1e6)


def _middle(values: list[float]) -> Range:
    ordered = sorted(values)
    return Range(ordered[len(ordered) // 10], ordered[-1 - len(ordered) // 10])


def _sum(ranges: Sequence[Range]) -> Range:
    return Range(sum(low for low, _ in ranges), sum(high for _, high in ranges))
