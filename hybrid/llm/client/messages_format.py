"""A request and an answer as the Messages protocol has them."""

from typing import Any

import msgspec

from hybrid.llm.request import FailureKind, Reply, Request

FRAME_TOKENS = 1024
"""Tokens set aside for what the provider adds around a prompt: roles, and its words about structured output."""


def to_params(request: Request, model: str, *, cache: bool) -> dict[str, Any]:
    """Return the body of a request; with `cache` its fixed part is marked for the provider's prompt cache."""
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
    """Return how many tokens an answer may have, thinking included."""
    return request.max_tokens + (request.thinking if isinstance(request.thinking, int) else 0)


def prompt_bytes(request: Request) -> int:
    """Return the size of a prompt in UTF-8."""
    schema = msgspec.json.encode(request.schema)
    return len(schema) + sum(len(part.encode("utf-8", "surrogatepass")) for part in (request.system, request.user))


def most_input_tokens(request: Request) -> int:
    """Return a number of tokens that a prompt cannot exceed: a token stands for one byte or more.

    The schema counts twice, since the provider also tells it to the model in words.
    """
    return prompt_bytes(request) + len(msgspec.json.encode(request.schema)) + FRAME_TOKENS


def is_message(came: Any) -> bool:
    """Return whether what came is a message of the protocol."""
    return getattr(came, "type", None) == "message" and isinstance(came.content, list)


def read_message(message: Any, name: str) -> Reply:
    """Return the reply that a message is, its cost and its time still to be filled in."""
    used = message.usage
    reply = Reply(
        status="ok",
        text="".join(block.text for block in message.content if block.type == "text"),
        thinking="\n".join(block.thinking for block in message.content if block.type == "thinking"),
        model=message.model or name,
        input_tokens=getattr(used, "input_tokens", None) or 0,
        output_tokens=getattr(used, "output_tokens", None) or 0,
        cache_write_tokens=getattr(used, "cache_creation_input_tokens", None) or 0,
        cache_read_tokens=getattr(used, "cache_read_input_tokens", None) or 0,
    )
    if message.stop_reason == "refusal":
        return msgspec.structs.replace(reply, status="refused", reason="the model refused to answer")
    if message.stop_reason in ("max_tokens", "model_context_window_exceeded"):
        reason = f"cut off after {reply.output_tokens} tokens ({message.stop_reason}); raise max_tokens"
        return msgspec.structs.replace(reply, status="cut_off", reason=reason)
    if not reply.text:
        return msgspec.structs.replace(reply, status="failed", failure=FailureKind.EMPTY, reason="an empty answer")
    return reply
