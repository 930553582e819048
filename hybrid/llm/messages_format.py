"""Requests and answers in the form of the Messages protocol."""

import json
import re
from typing import Any, Literal, TypeGuard

import msgspec

from hybrid.llm.request import FailureKind, Reply, Request

FRAME_TOKENS = 1024
"""Tokens set aside for what the provider adds to a prompt: roles, and its instructions about structured output."""
MOST_TOKENS = 10_000_000
"""More tokens than any model reads or writes in one call: a larger count is none."""
TOKEN_FIELDS = ("input_tokens", "output_tokens", "cache_write_tokens", "cache_read_tokens")
"""The token counts of a `Reply`, in the order of the protocol's `_USAGE`."""
_USAGE = ("input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
_MOST_USAGE_CHARS = 100
"""The most characters of a usage that is none which a reply quotes."""
_SURROGATE = re.compile("[\ud800-\udfff]")


def to_params(request: Request, model: str, *, cache: bool) -> dict[str, Any]:
    """The body of a request; with `cache` its fixed part is marked for the provider's prompt cache."""
    system: Any = request.system
    if cache:
        system = [{"type": "text", "text": request.system, "cache_control": {"type": "ephemeral"}}]
    output: dict[str, Any] = {"format": {"type": "json_schema", "schema": request.schema}}
    params: dict[str, Any] = {
        "model": model,
        "max_tokens": most_output_tokens(request),
        "system": system,
        "messages": [{"role": "user", "content": request.user}],
        "output_config": output,
    }
    # Newer models leave their thoughts out unless they are asked for a summary.
    if isinstance(request.thinking, int):
        params["thinking"] = {"type": "enabled", "budget_tokens": request.thinking}
    elif isinstance(request.thinking, str):
        params["thinking"] = {"type": "adaptive", "display": "summarized"}
        output["effort"] = request.thinking
    if request.temperature is not None:
        params["temperature"] = request.temperature
    return params


def most_output_tokens(request: Request) -> int:
    """The most tokens that an answer may have, thinking included."""
    return request.max_tokens + (request.thinking if isinstance(request.thinking, int) else 0)


def prompt_bytes(request: Request) -> int:
    """The size of a prompt in UTF-8, its schema included."""
    schema = msgspec.json.encode(request.schema)
    return len(schema) + sum(len(part.encode("utf-8", "surrogatepass")) for part in (request.system, request.user))


def most_input_tokens(request: Request) -> int:
    """An upper bound on the tokens of a prompt: a token stands for one byte or more.

    The schema counts twice, because the provider also describes it to the model in words.
    """
    return prompt_bytes(request) + len(msgspec.json.encode(request.schema)) + FRAME_TOKENS


def is_message(body: object) -> TypeGuard[dict[str, Any]]:
    """Whether the body of a response is a message of the protocol."""
    return isinstance(body, dict) and body.get("type") == "message" and isinstance(body.get("content"), list)


def is_error(body: object) -> TypeGuard[dict[str, Any]]:
    """Whether the body of a response is an error of the protocol, which says that the call is not billed."""
    error = body.get("error") if isinstance(body, dict) and body.get("type") == "error" else None
    return isinstance(error, dict) and isinstance(error.get("type"), str)


def decode_body(content: bytes | str) -> object:
    """Decode the JSON of a response.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def read_message(message: dict[str, Any], name: str) -> Reply:
    """The reply that a message stands for, without its cost and its time; fields that are not as they should be are none."""
    stop_reason = message.get("stop_reason")
    reply = _with_usage(
        Reply(
            status="ok",
            text="".join(_blocks(message, "text")),
            thinking="\n".join(_blocks(message, "thinking")),
            model=_clean(message.get("model")) or name,
        ),
        message.get("usage"),
    )
    if stop_reason == "refusal":
        return msgspec.structs.replace(reply, status="refused", reason="the model refused to answer")
    if stop_reason in ("max_tokens", "model_context_window_exceeded"):
        reason = f"cut off after {reply.output_tokens} tokens ({stop_reason}); raise max_tokens"
        return msgspec.structs.replace(reply, status="cut_off", reason=reason)
    if not reply.text:
        return msgspec.structs.replace(reply, status="failed", failure=FailureKind.EMPTY, reason="an empty answer")
    return reply


def _with_usage(reply: Reply, usage: object) -> Reply:
    """Add the token counts that a message states, or note that they are none that a call can have."""
    stated = [usage.get(name) for name in _USAGE] if isinstance(usage, dict) else [None] * len(_USAGE)
    # Servers without a cache leave its counts out.
    values = [*stated[:2], *(0 if count is None else count for count in stated[2:])]
    counts = [count for count in values if type(count) is int and 0 <= count <= MOST_TOKENS]
    prompt = sum(counts) - counts[1] if len(counts) == len(_USAGE) else 0
    if not prompt or (reply.text and not counts[1]):
        return msgspec.structs.replace(reply, odd_usage=repr(usage)[:_MOST_USAGE_CHARS])
    return msgspec.structs.replace(reply, **dict(zip(TOKEN_FIELDS, counts, strict=True)))


def _blocks(message: dict[str, Any], kind: Literal["text", "thinking"]) -> list[str]:
    """The texts of the content blocks of one kind."""
    blocks = [block for block in message["content"] if isinstance(block, dict) and block.get("type") == kind]
    return [text for block in blocks if (text := _clean(block.get(kind)))]


def _clean(value: object) -> str:
    """A string without lone surrogates, which no file can hold; empty where the value is no string."""
    return _SURROGATE.sub("\ufffd", value) if isinstance(value, str) else ""
