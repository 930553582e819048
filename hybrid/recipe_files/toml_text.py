"""The text of a recipe: values as TOML spells them, and settings put into lines that are there."""

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def to_toml(value: object) -> str:
    """Spell a value in TOML. Its strings are those of JSON, except that DEL is escaped."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(key)} = {to_toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def with_settings(lines: Sequence[str], settings: Mapping[str, Any]) -> list[str]:
    """Put settings into the lines of a recipe.

    A setting takes the line that has its key, commented out or not; without one it follows the name of its section, and
    without that it starts a section at the end.

    Args:
        lines: the lines; the keys before the first section are those of the recipe itself.
        settings: values by key, and by section and key.
    """
    written = list(lines)
    for section, key, value in _flat(settings):
        start, end = _place(written, section)
        if start < 0:
            written += [f"[{section}]", f"{key} = {to_toml(value)}", ""]
            continue
        pattern = re.compile(rf"(# )?{re.escape(key)} = .*")
        at = next((at for at in range(start, end) if pattern.fullmatch(written[at])), None)
        written[start if at is None else at : start if at is None else at + 1] = [f"{key} = {to_toml(value)}"]
    return written


def _flat(settings: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Yield section, key and value; the section is empty for a key of the recipe itself."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from ((name, key, inner) for key, inner in value.items())
        else:
            yield "", name, value


def _place(lines: Sequence[str], section: str) -> tuple[int, int]:
    """Return where the lines of a section start and end; (-1, -1) if it is not there."""
    headers = [at for at, line in enumerate(lines) if re.fullmatch(r"\[[\w.]+\]", line)] + [len(lines)]
    if not section:
        first = next(at for at, line in enumerate(lines) if not line.startswith("#"))
        return first, headers[0]
    for at, following in itertools.pairwise(headers):
        if lines[at] == f"[{section}]":
            return at + 1, following
    return -1, -1
