"""Settings from the command line, over those of a file."""

import datetime
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

from hybrid.errors import ConfigError


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Read `train.epochs=6` as `{"train": {"epochs": 6}}`; the later of two wins.

    A value that is not TOML is a string.

    Raises:
        ConfigError: a setting is not KEY=VALUE.
    """
    merged: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        *sections, name = key.split(".")
        if not equals or not all([*sections, name]):
            raise ConfigError(f"--set {setting!r}: expected KEY=VALUE, such as train.epochs=6")
        value: Any = _value(text)
        for section in [name, *reversed(sections)]:
            value = {section: value}
        merged = merge(merged, value)
    return merged


def merge(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return `under` with the values of `over` in place of its own; sections are merged key by key. Neither is changed."""
    merged = dict(under)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def _value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
    except ValueError:  # not TOML, or a number with thousands of digits
        return text
    value = parsed["value"]
    # No setting is a date, and a text with line ends is not one value.
    is_text = len(parsed) > 1 or isinstance(value, datetime.date | datetime.time)
    return text if is_text else value
