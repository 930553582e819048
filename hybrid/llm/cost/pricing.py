"""Bounds the cost of a call, and holds the limits on the cost of all calls."""

import math
from pathlib import Path
from typing import Literal

import msgspec

from hybrid.config import LLMConfig
from hybrid.errors import ConfigError
from hybrid.llm.cost.prices import Price, packaged_prices, price_of, read_prices
from hybrid.llm.messages_format import most_input_tokens, most_output_tokens
from hybrid.llm.request import Request

NANO = 1_000_000_000
"""Billionths of a dollar in a dollar."""


HOUR_S = 3600.0
DAY_S = 24 * HOUR_S


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """The most that the calls of one role may cost, over all time or in a sliding window."""

    setting: str
    """The setting that has it, for messages."""
    usd: float
    window: Literal["", "hour", "day"] = ""
    """Empty: over all time."""

    @property
    def window_s(self) -> float | None:
        """The length of the window in seconds; None: all time."""
        return {"": None, "hour": HOUR_S, "day": DAY_S}[self.window]

    @property
    def nano(self) -> int:
        """The limit in billionths of a dollar."""
        return int(self.usd * NANO)


class Pricing(msgspec.Struct, frozen=True, kw_only=True):
    """The prices and limits under which one section of a recipe calls a model."""

    model: str
    role: str = ""
    """The section: teacher or decoder."""
    price: Price | None = None
    cache: bool = False
    """Whether a call may write to the provider's prompt cache."""
    batch: bool = False
    budget_usd: float | None = None
    """The most that all calls may cost; None: no limit."""
    usd_per_hour: float | None = None
    usd_per_day: float | None = None

    def limits(self) -> tuple[Limit, ...]:
        """The limits that are set."""
        windows: tuple[tuple[str, float | None, Literal["", "hour", "day"]], ...] = (
            ("budget_usd", self.budget_usd, ""),
            ("usd_per_hour", self.usd_per_hour, "hour"),
            ("usd_per_day", self.usd_per_day, "day"),
        )
        return tuple(
            Limit(setting=f"{self.role}.{name}", usd=usd, window=window)
            for name, usd, window in windows
            if usd is not None
        )

    def worst_nano(self, request: Request, *, batch: bool = False) -> int | None:
        """Bound the cost of a call, in billionths of a dollar; None if a price is not known.

        The prompt is bounded by its bytes, at its highest price; the answer is bounded by `max_tokens`.
        """
        tokens = most_input_tokens(request)
        price = self.price
        if price is None or (price.up_to is not None and tokens > price.up_to) or (batch and price.batch is None):
            return None
        prompt_price = max(price.input, price.cache_write or 0.0) if self.cache else price.input
        micro_usd = tokens * prompt_price + most_output_tokens(request) * price.output
        return math.ceil(micro_usd * 1000 * (price.batch or 0.0 if batch else 1.0))

    def unpriced(self) -> str:
        """Name the price that is missing to enforce the limits; empty if none is."""
        if not self.limits():
            return ""
        if self.price is None:
            return "the price of the model"
        if self.cache and self.price.cache_write is None:
            return "its price of cache_write"
        return "its price in a batch" if self.batch and self.price.batch is None else ""

    def check(self) -> None:
        """Refuse limits that could not be enforced.

        Raises:
            ConfigError: there is a limit and a price is not known.
        """
        if unpriced := self.unpriced():
            limit = self.limits()[0]
            raise ConfigError(
                f"{limit.setting} = {limit.usd:g}: {unpriced} ({self.model}) is not known, so the limit could not be enforced; "
                f"give it in a file that {self.role}.prices names, or leave the limit out"
            )


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """The total cost and tokens of the calls of one role, over all runs that share the store."""

    settled_usd: float = 0.0
    """The cost of calls whose answer arrived."""
    unsettled_usd: float = 0.0
    """The most that calls may cost whose answer has not arrived, or never will."""
    calls: int = 0
    """Calls that the provider billed."""
    unsettled: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_write_tokens: int = 0
    cache_read_tokens: int = 0


def pricing_of(
    config: LLMConfig,
    *,
    folder: Path,
    role: str,
    usd_per_hour: float | None = None,
    usd_per_day: float | None = None,
) -> Pricing:
    """Read the prices and the limits under which a section calls its model; its file of prices counts from `folder`.

    Raises:
        ConfigError: there is a limit and a price is not known.
    """
    # What another server charges for a model of the same name is not ours to know.
    prices = {} if config.base_url else packaged_prices()
    own = read_prices(folder / config.prices) if config.prices else {}
    pricing = Pricing(
        role=role,
        model=config.model,
        price=price_of(prices | own, config.model),
        cache=not config.base_url if config.cache is None else config.cache,
        batch=config.batch,
        budget_usd=config.budget_usd,
        usd_per_hour=usd_per_hour,
        usd_per_day=usd_per_day,
    )
    pricing.check()
    return pricing
