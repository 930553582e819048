"""Reads the JSON object that an answer holds, and judges whether it is the one that the request's schema asks for.

A server that does not know structured output puts words before the object or a fence around it. What it meant is read where
that is plain, and nothing is guessed: two objects that differ, or one that is cut off, are no answer.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from hybrid.llm.request import Reply, Request

_BEGINS_OBJECT = re.compile(r'\{\s*["}]')
_SURROGATE = re.compile("[\ud800-\udfff]")
_decode = json.JSONDecoder(strict=False).raw_decode
_TYPES: dict[object, type | tuple[type, ...]] = {"string": str, "array": list, "object": dict, "number": (int, float)}


class UnreadableAnswerError(ValueError):
    """An answer that is not the one asked for; the message says what came instead."""


def read_answer(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """Read the outermost JSON object of an answer; a field with an enumeration has the member that it names.

    A member is recognised where it differs in case and white space alone. Fields beside the enumerated ones may be
    missing; without an enumeration all required ones have to be there.

    Raises:
        UnreadableAnswerError: there is no such object, or several that differ.
    """
    properties = schema.get("properties", {})
    enums = {name: field["enum"] for name, field in properties.items() if "enum" in field}
    candidates = [answer for answer in _objects(text) if properties.keys() & answer.keys()]
    answers = [answer for answer in candidates if enums.keys() & answer.keys()] or candidates
    if not answers:
        raise UnreadableAnswerError(f"not the JSON object asked for: {_short(text)}")
    named = [{name: member_of(answer.get(name), members) for name, members in enums.items()} for answer in answers]
    if any(other != named[0] for other in named) or (not enums and any(other != answers[0] for other in answers)):
        raise UnreadableAnswerError(f"several JSON objects that differ: {_short(text)}")
    if not enums:
        _check_required(answers[0], schema)
    return answers[0] | named[0]


def member_of(value: object, members: Sequence[str]) -> str:
    """Find the member that a value names, exactly or else by case and white space alone.

    Raises:
        UnreadableAnswerError: it names none, or several.
    """
    if isinstance(value, str):
        if value in members:
            return value
        alike = [member for member in members if _folded(member) == _folded(value)]
        if len(alike) == 1:
            return alike[0]
    raise UnreadableAnswerError(f"{_short(value)} is not a label")


def judged(request: Request, reply: Reply) -> Reply:
    """The reply as it is, or as an unreadable one where a whole answer is not what the request asks for."""
    if reply.status != "ok" or "properties" not in request.schema:
        return reply
    try:
        read_answer(reply.text, request.schema)
    except UnreadableAnswerError as error:
        return msgspec.structs.replace(reply, status="unreadable", reason=str(error))
    return reply


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The outermost JSON objects of a text, up to the first that is not whole: what stands inside that one is a part."""
    at = 0
    while begin := _BEGINS_OBJECT.search(text, at):
        try:
            value, at = _decode(text, begin.start())
        except (ValueError, RecursionError):
            raise UnreadableAnswerError(f"not the JSON object asked for: {_short(text)}") from None
        yield _without_surrogates(value)


def _check_required(answer: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    for name in schema.get("required", ()):
        kind = schema["properties"][name].get("type")
        if not isinstance(answer.get(name), _TYPES.get(kind, object)):
            raise UnreadableAnswerError(f"expected {kind} as {name!r}, got {_short(answer.get(name))}")


def _without_surrogates(value: Any) -> Any:
    """A decoded value with lone surrogates, which no file can hold, replaced."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {_without_surrogates(name): _without_surrogates(item) for name, item in value.items()}
    return value


def _folded(text: str) -> str:
    return " ".join(text.split()).casefold()


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
