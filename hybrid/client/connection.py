"""What both clients set up and check alike."""

import os
from collections.abc import Sequence
from typing import Any

import httpx

from hybrid.client.errors import UnanswerableError
from hybrid.client.messages import Answer, Failed
from hybrid.errors import ConfigError

API_KEY = "HYBRID_API_KEY"
"""The environment variable with the key that is sent."""
CONNECTIONS = 256
"""At once, from one client."""


def connection(url: str, api_key: str | None) -> dict[str, Any]:
    """Return the settings of httpx for a service at `url`.

    Raises:
        ConfigError: it is no URL of a service.
    """
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"{url!r}: not the URL of a service; want one such as http://127.0.0.1:8000")
    key = os.environ.get(API_KEY, "") if api_key is None else api_key
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    return {"base_url": url, "headers": headers, "limits": limits}


def checked(inputs: str | Sequence[str]) -> Sequence[str]:
    """Return the texts as a list.

    Raises:
        UnanswerableError: one is not a string, or cannot be written as UTF-8.
    """
    texts = [inputs] if isinstance(inputs, str) else list(inputs)
    for at, text in enumerate(texts):
        if not isinstance(text, str):
            raise UnanswerableError(f"text {at} is {text!r:.40}; want a string", item=at)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UnanswerableError(
                f"text {at} has a lone surrogate at {error.start}; want Unicode", item=at
            ) from error
    return texts


def one_answer(found: Sequence[Answer | Failed]) -> Answer:
    """Return the only answer.

    Raises:
        UnanswerableError: the service fails on the text.
    """
    if isinstance(found[0], Failed):
        raise UnanswerableError(found[0].message, kind=found[0].kind, item=0)
    return found[0]
