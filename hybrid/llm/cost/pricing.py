"""What a call may cost at most, and what it says when that is too much."""

import math
from pathlib import Path

import msgspec

from hybrid.config import LLMConfig
from hybrid.errors import ConfigError
from hybrid.llm.client.messages_format import most_input_tokens, most_output_tokens
from hybrid.llm.cost.prices import Price, packaged_prices, price_of, read_prices
from hybrid.llm.request import Request

NANO = 1_000_000_000
"""Billionths of a dollar in a dollar."""


class Pricing(msgspec.Struct, frozen=True, kw_only=True):
    """On what terms one section of a recipe calls a model."""

    model: str
    role: str = ""
    """The section: teacher or decoder."""
    price: Price | None = None
    cache: bool = False
    """Whether a call may write to the provider's prompt cache."""
    batch: bool = False
    budget_usd: float | None = None

    def worst_nano(self, request: Request, *, batch: bool = False) -> int | None:
        """Return the most that a call can cost, in billionths of a dollar; None where a price is not known.

        The prompt is bounded by its bytes and taken at its dearest price, the answer by `max_tokens`.
        """
        tokens = most_input_tokens(request)
        price = self.price
        if price is None or (price.up_to is not None and tokens > price.up_to) or (batch and price.batch is None):
            return None
        dearest = max(price.input, price.cache_write or 0.0) if self.cache else price.input
        micro = tokens * dearest + most_output_tokens(request) * price.output
        return math.ceil(micro * 1000 * (price.batch or 0.0 if batch else 1.0))

    def unpriced(self) -> str:
        """Return which price is missing to hold the budget; empty where none is."""
        if self.budget_usd is None:
            return ""
        if self.price is None:
            return "the price of the model"
        if self.cache and self.price.cache_write is None:
            return "its price of cache_write"
        return "its price in a batch" if self.batch and self.price.batch is None else ""


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What the calls of one role came to, over all runs that share the store."""

    settled_usd: float = 0.0
    """Of calls whose answer came."""
    unsettled_usd: float = 0.0
    """The most that calls may cost whose answer has not come, or never will."""
    calls: int = 0
    """Calls that the provider billed."""
    unsettled: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0


def pricing_of(config: LLMConfig, *, folder: Path, role: str) -> Pricing:
    """Read the prices and the budget under which a section calls its model; its file of prices counts from `folder`.

    Raises:
        ConfigError: there is a budget and a price is not known.
    """
    # What another server charges for a model of the same name is not ours to know.
    prices = {} if config.base_url else packaged_prices()
    own = read_prices(folder / config.prices) if config.prices else {}
    terms = Pricing(
        role=role,
        model=config.model,
        price=price_of(prices | own, config.model),
        cache=not config.base_url if config.cache is None else config.cache,
        batch=config.batch,
        budget_usd=config.budget_usd,
    )
    if terms.unpriced():
        raise ConfigError(
            f"{role}.budget_usd = {config.budget_usd:g}: {terms.unpriced()} ({config.model}) is not known, so the budget "
            f"could not be held; give it in a file that {role}.prices names, or leave the budget out"
        )
    return terms


def refusal(terms: Pricing, spent: Spent, worst_nano: int) -> str:
    """Return the sentence that stops a run before a call that could cross the budget."""
    lost = f" and up to {spent.unsettled_usd:.4f} USD for {spent.unsettled} calls without an answer"
    return (
        f"{terms.role}.budget_usd = {terms.budget_usd:g}: {spent.settled_usd:.4f} USD are spent"
        f"{lost if spent.unsettled else ''}, and the next call could cost {worst_nano / NANO:.4f} USD; raise "
        f"{terms.role}.budget_usd, lower max_tokens or ask less (see --estimate), then run again: every answer is kept"
    )
