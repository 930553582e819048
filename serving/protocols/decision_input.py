"""The input of `POST /v1/decisions` as one text: a string, or messages and calls with their parts."""

from typing import Any, Literal

import msgspec

from serving.errors import BadRequestError, UnanswerableError

Parts = str | list[dict[str, Any]]


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A message of a conversation, with the role of its author."""

    role: Literal["user", "developer", "system", "assistant"]
    content: Parts


class FunctionCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that a model made to a function, with JSON arguments."""

    call_id: str
    name: str
    arguments: str


class CustomToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call that a model made to a custom tool, with free text as its input."""

    call_id: str
    name: str
    input: str


class CallOutput(msgspec.Struct, frozen=True, kw_only=True):
    """The output of a function or custom tool call."""

    call_id: str
    output: Parts


Item = Message | FunctionCall | CustomToolCall | CallOutput
TYPES: dict[str, type[Item]] = {
    "message": Message,
    "function_call": FunctionCall,
    "custom_tool_call": CustomToolCall,
    "function_call_output": CallOutput,
    "custom_tool_call_output": CallOutput,
}


def read_input(content: str | list[dict[str, Any]]) -> str:
    """Flatten a request's `input` into one text: a lone message as it is, several items a line each, with their role.

    Raises:
        BadRequestError: an item or a part is not one of this protocol, or an output belongs to no call.
        UnanswerableError: there is an image.
    """
    if isinstance(content, str):
        return content
    items = [_item(item, f"input[{i}]") for i, item in enumerate(content)]
    _check_calls(items)
    if len(items) == 1 and isinstance(items[0], Message):
        return read_parts(items[0].content, "input[0].content")
    return "\n".join(_line(item, f"input[{i}]") for i, item in enumerate(items))


def read_parts(parts: Parts, where: str) -> str:
    """Join the parts of a message's content into one text: parts of text as they are, JSON parts as compact JSON.

    Raises:
        BadRequestError: a part is not one of this protocol.
        UnanswerableError: a part is an image.
    """
    if isinstance(parts, str):
        return parts
    return "\n".join(_part(part, f"{where}[{i}]") for i, part in enumerate(parts))


def as_text(value: Any) -> str:
    """Convert a JSON value to text: a string as it is, anything else as compact JSON.

    Raises:
        BadRequestError: it holds a number that JSON libraries do not write.
    """
    if isinstance(value, str):
        return value
    try:
        return msgspec.json.encode(value).decode()
    except (OverflowError, ValueError, RecursionError) as error:
        raise BadRequestError(f"a value cannot be written as text ({error}); send it as a string") from error


def _item(item: dict[str, Any], where: str) -> Item:
    name = item.get("type", "message")
    kind = TYPES.get(name) if isinstance(name, str) else None
    if kind is None:
        raise BadRequestError(f"{where}.type: {str(name)[:40]!r}; expected one of {', '.join(TYPES)}")
    try:
        return msgspec.convert(item, kind)
    except msgspec.ValidationError as error:
        raise BadRequestError(f"{where}: {error}") from error


def _line(item: Item, where: str) -> str:
    if isinstance(item, Message):
        return f"{item.role}: {read_parts(item.content, f'{where}.content')}"
    if isinstance(item, CallOutput):
        return f"output: {read_parts(item.output, f'{where}.output')}"
    call_input = item.arguments if isinstance(item, FunctionCall) else item.input
    return f"{item.name}: {call_input}"


def _check_calls(items: list[Item]) -> None:
    call_ids: set[str] = set()
    for i, item in enumerate(items):
        if isinstance(item, FunctionCall | CustomToolCall):
            call_ids.add(item.call_id)
        elif isinstance(item, CallOutput) and item.call_id not in call_ids:
            raise BadRequestError(
                f"input[{i}].call_id: {item.call_id[:40]!r} matches no earlier call; expected the call_id of one"
            )


def _part(part: dict[str, Any], where: str) -> str:
    kind = part.get("type")
    field = {"input_text": "text", "output_text": "text", "refusal": "refusal"}.get(str(kind))
    if field is not None and isinstance(part.get(field), str):
        return str(part[field])
    if kind == "input_json" and isinstance(part.get("data"), dict | list):
        return as_text(part["data"])
    if kind == "input_image":
        raise UnanswerableError(f"{where}: got an image; expected text, the only input that this service reads")
    raise BadRequestError(f"{where}: not a part; expected input_text with `text`, or input_json with `data`")
