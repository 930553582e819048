"""Asks a server of the Messages protocol for the name of the model that it serves."""

from typing import Any

import msgspec

from hybrid.errors import ConfigError
from hybrid.llm.client.messages import Messages
from hybrid.urls import hide_user_info

TIMEOUT_S = 10.0


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


def served_model(base_url: str) -> str:
    """Return the name of the one model at a server, by its list at `/v1/models`, which vLLM, Ollama and llama.cpp have.

    Raises:
        ConfigError: the server has no such list, or several models in it.
        LLMError: the package `anthropic` is missing, or the URL is none.
    """
    where = hide_user_info(base_url)
    example = f'decoder={{"model": "NAME", "base_url": "{where}"}}'
    client = Messages("", base_url=base_url, timeout_s=TIMEOUT_S)
    failures: tuple[type[Exception], ...] = (client.sdk.APIError, client.transport_error, msgspec.DecodeError)
    try:
        models = msgspec.json.decode(client.get("/v1/models"), type=_Models).data
    except failures as error:
        raise ConfigError(
            f"{where}: its list of models cannot be read ({_first_line(error)}); name the model: {example}"
        ) from error
    if len(models) != 1:
        names = ", ".join(model.id for model in models[:10]) or "none"
        raise ConfigError(f"{where}: it serves {len(models)} models ({names}), expected one; name it: {example}")
    return models[0].id


def _first_line(error: Any) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
