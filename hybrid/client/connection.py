"""The connection settings and the checks of texts that both clients share."""

import os
from collections.abc import Sequence
from typing import Any

import httpx

from hybrid.client.errors import UnanswerableError
from hybrid.client.messages import Answer, Failed
from hybrid.errors import ConfigError
from hybrid.urls import hide_user_info

API_KEY = "HYBRID_API_KEY"
"""The environment variable that holds the API key."""
CONNECTIONS = 256
"""The most connections of one client."""
MAX_REPLY_BYTES = 256 << 20
"""The most bytes of one reply: several times those of a full request to a bundle of a thousand labels."""


def connection(url: str, api_key: str | None) -> dict[str, Any]:
    """Return the arguments of an httpx client for a service at `url`.

    Raises:
        ConfigError: it is not the URL of a service.
    """
    try:
        is_url = url.startswith(("http://", "https://")) and bool(httpx.URL(url).host)
    except httpx.InvalidURL:
        is_url = False
    if not is_url:
        raise ConfigError(
            f"{hide_user_info(url)!r}: not the URL of a service; expected one such as http://127.0.0.1:8000"
        )
    key = os.environ.get(API_KEY, "") if api_key is None else api_key
    # The service compresses no reply, and one that unpacks to gigabytes is none.
    headers = {"content-type": "application/json", "accept-encoding": "identity"}
    headers |= {"authorization": f"Bearer {key}"} if key else {}
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    # Another server would get the key and the texts.
    return {"base_url": url, "headers": headers, "limits": limits, "follow_redirects": False}


def checked(inputs: str | Sequence[str]) -> Sequence[str]:
    """Return the texts as a list; a single string is a list of one.

    Raises:
        UnanswerableError: a text is not a string, or cannot be encoded as UTF-8.
    """
    texts = [inputs] if isinstance(inputs, str) else list(inputs)
    for at, text in enumerate(texts):
        if not isinstance(text, str):
            raise UnanswerableError(f"text {at} is {text!r:.40}; expected a string", item=at)
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UnanswerableError(
                f"text {at} has a lone surrogate at {error.start}; expected Unicode text", item=at
            ) from error
    return texts


def only_answer(answers: Sequence[Answer | Failed]) -> Answer:
    """Return the answer of a call with one text.

    Raises:
        UnanswerableError: the service failed on the text.
    """
    if isinstance(answers[0], Failed):
        raise UnanswerableError(answers[0].message, kind=answers[0].kind, item=0)
    return answers[0]
