"""What a server of messages says to a question with options."""

import json
from typing import Any

from tests.messages_server import Handler, answer


def first_option(handler: Handler, body: dict[str, Any]) -> None:
    """Answer with the first option that the request's schema allows."""
    name = enum_in(body)[0]
    answer(json.dumps({"rationale": "It is the first.", "label": name, "confidence": 0.75}))(handler, body)


def nothing(handler: Handler, body: dict[str, Any]) -> None:
    """Answer what is no answer."""
    answer("I would rather not say.")(handler, body)


def enum_in(value: Any) -> list[str]:
    """Return the labels that a JSON schema anywhere in the request allows."""
    if isinstance(value, dict):
        if isinstance(value.get("enum"), list):
            return list(value["enum"])
        value = list(value.values())
    for item in value if isinstance(value, list) else []:
        result = enum_in(item)
        if result:
            return result
    return []
