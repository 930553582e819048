"""What an answer costs: known or absent, never guessed."""

import re
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import msgspec

from hybrid.errors import ConfigError

_SNAPSHOT = re.compile(r"-(\d{8}|latest)$")


class Price(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """USD per million tokens."""

    input: float
    output: float
    up_to: int | None = None
    """The longest prompt, in tokens, that the price holds for; None: any."""


class _PriceList(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    read: str = ""
    models: dict[str, Price]


def packaged_prices() -> dict[str, Price]:
    """Return the prices in the package, by model; `prices.toml` says when they were read."""
    text = files("hybrid.llm").joinpath("prices.toml").read_text(encoding="utf-8")
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


def cost_usd(prices: Mapping[str, Price], model: str, input_tokens: int, output_tokens: int) -> float | None:
    """Return what the tokens cost, or None where the model's price is not known."""
    price = prices.get(model) or prices.get(_SNAPSHOT.sub("", model))
    if price is None or (price.up_to is not None and input_tokens > price.up_to):
        return None
    return (input_tokens * price.input + output_tokens * price.output) / 1e6
