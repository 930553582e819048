"""Settings from the command line, over those of a file."""

import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from hybrid.errors import ConfigError


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Return `train.epochs=6` as `{"train": {"epochs": 6}}`; a value that is not TOML is a string.

    Raises:
        ConfigError: one is not of that form.
    """
    merged: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {setting!r}: want KEY=VALUE, such as train.epochs=6")
        try:
            parsed = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed = value
        *sections, last = key.split(".")
        place = merged
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = parsed
    return merged


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `under` with the values of `over` in place of its own; sections are merged key by key."""
    merged = dict(under)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged
