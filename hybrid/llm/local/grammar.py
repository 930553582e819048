"""Converts JSON schemas to llama.cpp's grammars (GBNF), so that a small model's answer is valid and short.

llama.cpp accepts JSON schemas too, but then lets the model write white space between the parts and endless numbers.
"""

import json
from collections.abc import Mapping
from typing import Any

_FREE_CHARACTER = r'[^"\\\x00-\x1F\x7F]'
_SHARE = '("0" ("." [0-9] [0-9]?)? | "1")'
_JSON_TOKENS = 40
"""Tokens reserved for everything except free text: braces, keys, label and confidence."""


def grammar(schema: Mapping[str, Any], max_tokens: int) -> str | None:
    """Build the grammar of an object of strings, enums and numbers from 0 to 1; None for other schemas.

    A small model tends to write as much as it may, so the grammar allows no white space between the parts and limits the
    length of each free string.
    """
    fields: Mapping[str, Any] = schema.get("properties", {})
    parts = [_part(field, longest_text(schema, max_tokens)) for field in fields.values()]
    if schema.get("type") != "object" or not fields or None in parts:
        return None
    keys = [
        _literal(("{" if not i else ",") + json.dumps(name, ensure_ascii=False) + ":") for i, name in enumerate(fields)
    ]
    body = " ".join(f"{key} {part}" for key, part in zip(keys, parts, strict=True))
    return f'root ::= {body} "}}"'


def longest_text(schema: Mapping[str, Any], max_tokens: int) -> int:
    """Compute the most characters of each free string, at two characters a token, which most scripts reach."""
    n_free = sum(_is_free(field) for field in schema.get("properties", {}).values())
    return max(40, min(400, 2 * (max_tokens - _JSON_TOKENS) // max(1, n_free)))


def _part(field: Mapping[str, Any], longest: int) -> str | None:
    if "enum" in field:
        return "(" + " | ".join(_literal(json.dumps(name, ensure_ascii=False)) for name in field["enum"]) + ")"
    if _is_free(field):
        return f'"\\"" {_FREE_CHARACTER}{{0,{longest}}} "\\""'
    return _SHARE if field.get("type") == "number" else None


def _is_free(field: Mapping[str, Any]) -> bool:
    return field.get("type") == "string" and "enum" not in field


def _literal(text: str) -> str:
    """Quote a text as a literal of the grammar."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
