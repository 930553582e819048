"""Prices of models, and the cost of an answer. A price that is not known is absent, never guessed."""

import re
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Protocol

import msgspec

from hybrid.errors import ConfigError

_SNAPSHOT = re.compile(r"-(\d{8}|latest)$")


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """USD per million tokens."""

    input: float
    output: float
    cache_write: float | None = None
    """The price of tokens written to the prompt cache (five minutes); None: not known."""
    cache_read: float | None = None
    batch: float | None = None
    """The cost of a call in a batch as a share of the same call on its own; None: not known."""
    up_to: int | None = None
    """The longest prompt, in tokens with the cached ones, to which the price applies; None: any."""


class Tokens(Protocol):
    """The tokens of one call as a provider counts them; a `Reply` has these fields."""

    @property
    def input_tokens(self) -> int:
        """Tokens of the prompt that were neither written to a cache nor read from one."""

    @property
    def output_tokens(self) -> int:
        """Tokens of the answer, thinking included."""

    @property
    def cache_write_tokens(self) -> int:
        """Tokens of the prompt that were written to the prompt cache."""

    @property
    def cache_read_tokens(self) -> int:
        """Tokens of the prompt that were read from the prompt cache."""


class _PriceList(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    read: str = ""
    models: dict[str, Price]


def packaged_prices() -> dict[str, Price]:
    """Read the packaged prices by model; `prices.toml` has the date on which they were looked up."""
    text = files("hybrid.llm.cost").joinpath("prices.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), _PriceList).models


def read_prices(path: Path) -> dict[str, Price]:
    """Read the prices in a user's file, which has the format of the packaged file.

    Raises:
        ConfigError: the file cannot be read or is not a list of prices.
    """
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _PriceList).models
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(
            f'{path}: not a list of prices ({error}); expected lines such as "model" = {{ input = 1.0, output = 5.0 }} '
            "under [models], in USD per million tokens"
        ) from error


def price_of(prices: Mapping[str, Price], model: str) -> Price | None:
    """Find the price of a model, by its name or, for a dated snapshot, the name without the date; None if not known."""
    return prices.get(model) or prices.get(_SNAPSHOT.sub("", model))


def cost_usd(price: Price | None, tokens: Tokens, *, batch: bool = False) -> float | None:
    """Compute the cost of a call; None if a price that it needs is not known."""
    prompt = tokens.input_tokens + tokens.cache_write_tokens + tokens.cache_read_tokens
    if price is None or (price.up_to is not None and prompt > price.up_to):
        return None
    cost = tokens.input_tokens * price.input + tokens.output_tokens * price.output
    for count, per_million in (
        (tokens.cache_write_tokens, price.cache_write),
        (tokens.cache_read_tokens, price.cache_read),
    ):
        if count and per_million is None:
            return None
        cost += count * (per_million or 0.0)
    if not batch:
        return cost / 1e6
    return None if price.batch is None else cost * price.batch / 1e6
