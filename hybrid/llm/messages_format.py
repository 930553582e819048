"""Requests and answers in the form of the Messages protocol."""

from typing import Any

import msgspec

from hybrid.llm.request import FailureKind, Reply, Request

FRAME_TOKENS = 1024
"""Tokens set aside for what the provider adds to a prompt: roles, and its instructions about structured output."""


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


def is_message(body: Any) -> bool:
    """Whether the body of a response is a message of the protocol."""
    return getattr(body, "type", None) == "message" and isinstance(body.content, list)


def read_message(message: Any, name: str) -> Reply:
    """The reply that a message stands for, without its cost and its time."""
    usage = message.usage
    reply = Reply(
        status="ok",
        text="".join(block.text for block in message.content if block.type == "text"),
        thinking="\n".join(block.thinking for block in message.content if block.type == "thinking"),
        model=message.model or name,
        input_tokens=getattr(usage, "input_tokens", None) or 0,
        output_tokens=getattr(usage, "output_tokens", None) or 0,
        cache_write_tokens=getattr(usage, "cache_creation_input_tokens", None) or 0,
        cache_read_tokens=getattr(usage, "cache_read_input_tokens", None) or 0,
    )
    if message.stop_reason == "refusal":
        return msgspec.structs.replace(reply, status="refused", reason="the model refused to answer")
    if message.stop_reason in ("max_tokens", "model_context_window_exceeded"):
        reason = f"cut off after {reply.output_tokens} tokens ({message.stop_reason}); raise max_tokens"
        return msgspec.structs.replace(reply, status="cut_off", reason=reason)
    if not reply.text:
        return msgspec.structs.replace(reply, status="failed", failure=FailureKind.EMPTY, reason="an empty answer")
    return reply
