"""Opens the SDK's client: to which server, with which key and headers, and nothing that the environment adds unasked."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

import msgspec

from hybrid.errors import LLMError
from hybrid.network_settings import explained
from hybrid.urls import hide_user_info

CLAUDE_API = "https://api.anthropic.com"
BASE_URL = "ANTHROPIC_BASE_URL"
CUSTOM_HEADERS = "ANTHROPIC_CUSTOM_HEADERS"
"""Variables with which the environment names another place of Claude's API, and headers to send there."""
_opening = Lock()


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a model is asked."""

    base_url: str
    name: str
    """What people call it, without the user info of its URL."""
    key: str
    with_headers: bool = False
    """Whether the headers that the environment names are sent too."""


def place_of(model: str, base_url: str, *, use_environment: bool) -> Place:
    """Find where a model is asked: the server that its section names, or Claude's API.

    Claude's key is ANTHROPIC_API_KEY. It is never sent to a server that the section names; one that needs a key gets
    HYBRID_LLM_API_KEY.

    Raises:
        LLMError: the key is missing, or the base URL is none.
    """
    if base_url:
        _check_url(base_url, "base_url")
        key = os.environ.get("HYBRID_LLM_API_KEY", "none")
        return Place(base_url=base_url, name=hide_user_info(base_url), key=key)
    key = os.environ.get("ANTHROPIC_API_KEY", "")
    if not key:
        raise LLMError(
            f"{model}: the environment variable ANTHROPIC_API_KEY is not set, expected the key of the Claude API; "
            "set it, or choose the model 'recorded' or 'local', or a server with base_url"
        )
    url = os.environ.get(BASE_URL, "") if use_environment else ""
    if not url:
        return Place(base_url=CLAUDE_API, name="the Claude API", key=key, with_headers=use_environment)
    _check_url(url, f"{BASE_URL} of the environment")
    return Place(base_url=url, name=f"{hide_user_info(url)} ({BASE_URL})", key=key, with_headers=True)


def environment_note(*, use_environment: bool) -> str:
    """What to tell the user of Claude's API about the environment; empty where it names no other place and no headers."""
    names = [name for name in (BASE_URL, CUSTOM_HEADERS) if os.environ.get(name)]
    if not names:
        return ""
    if not use_environment:
        verb = "are" if len(names) > 1 else "is"
        return (
            f"{' and '.join(names)} of the environment {verb} not followed: texts and key go to {CLAUDE_API}; "
            "use_environment = true follows the environment"
        )
    parts = (
        [f"texts and key go to {hide_user_info(os.environ[BASE_URL])}, which {BASE_URL} names"]
        if BASE_URL in names
        else []
    )
    if CUSTOM_HEADERS in names:
        parts.append(f"the headers {', '.join(_header_names())} of {CUSTOM_HEADERS} are sent along")
    return "; ".join(parts)


def open_sdk_client(sdk: Any, place: Place, *, timeout_s: float, open_http: Callable[..., Any]) -> Any:
    """Open a client of the SDK over one of its transport, without retries, redirects or tracing; nothing is sent yet.

    Raises:
        LLMError: the environment's proxies or certificates cannot be used.
    """
    with explained(LLMError), _environment(headers=place.with_headers):
        return sdk.Anthropic(
            api_key=place.key,
            base_url=place.base_url,
            timeout=timeout_s,
            max_retries=0,
            # The texts of requests are nobody's traces.
            open_telemetry=False,
            # Another server would get key and texts.
            http_client=open_http(follow_redirects=False),
        )


@contextmanager
def _environment(*, headers: bool) -> Iterator[None]:
    """Hide the environment's headers from the SDK, which adds them to every client that it opens, unless they are wanted."""
    with _opening:
        hidden = None if headers else os.environ.pop(CUSTOM_HEADERS, None)
        try:
            yield
        finally:
            if hidden is not None:
                os.environ[CUSTOM_HEADERS] = hidden


def _header_names() -> list[str]:
    return [line.partition(":")[0].strip() for line in os.environ[CUSTOM_HEADERS].splitlines() if ":" in line]


def _check_url(url: str, where: str) -> None:
    try:
        parts = urlsplit(url)
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_url = False
    if not is_url:
        raise LLMError(
            f"{where} = {hide_user_info(url)!r}: not the URL of a server; expected one such as http://127.0.0.1:8000"
        )
