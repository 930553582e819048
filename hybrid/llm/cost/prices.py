"""What an answer costs: known or absent, never guessed."""

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
    """For tokens written to the prompt cache (five minutes); None: not known."""
    cache_read: float | None = None
    batch: float | None = None
    """What a call in a batch costs, as a share of the same call on its own; None: not known."""
    up_to: int | None = None
    """The longest prompt, in tokens, cached ones included, that the price holds for; None: any."""


class Tokens(Protocol):
    """What a provider counts of one call; a `Reply` has it."""

    @property
    def input_tokens(self) -> int:
        """Tokens read anew."""

    @property
    def output_tokens(self) -> int:
        """Tokens written, thinking included."""

    @property
    def cache_write_tokens(self) -> int:
        """Tokens read anew and kept in the prompt cache."""

    @property
    def cache_read_tokens(self) -> int:
        """Tokens taken from the prompt cache."""


class _PriceList(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    read: str = ""
    models: dict[str, Price]


def packaged_prices() -> dict[str, Price]:
    """Return the prices in the package, by model; `prices.toml` says when they were read."""
    text = files("hybrid.llm.cost").joinpath("prices.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), _PriceList).models


def read_prices(path: Path) -> dict[str, Price]:
    """Return the prices in a user's file of the same form as the packaged one.

    Raises:
        ConfigError: the file cannot be read or is not a list of prices.
    """
    try:
        return msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _PriceList).models
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(
            f'{path}: not a list of prices ({error}); want lines such as "model" = {{ input = 1.0, output = 5.0 }} '
            "under [models], in USD per million tokens"
        ) from error


def price_of(prices: Mapping[str, Price], model: str) -> Price | None:
    """Return a model's price, by its name or that of which it is a dated snapshot; None where it is not known."""
    return prices.get(model) or prices.get(_SNAPSHOT.sub("", model))


def cost_usd(price: Price | None, tokens: Tokens, *, batch: bool = False) -> float | None:
    """Return what a call cost, or None where a price that it needs is not known."""
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
