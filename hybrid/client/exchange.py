"""A call as a talk that both clients hold: what to send next, how long to wait, and what it all comes to.

It does no input or output and waits for nothing. A client sends what the generator yields, and tells it what came.
"""

import random
import time
from collections.abc import Generator, Iterator, Sequence
from typing import cast

import msgspec

from hybrid.client.errors import DeadlineError, TooLargeError
from hybrid.client.messages import Answer, Failed, Options, Request
from hybrid.client.replies import NoReply, Received, error_of, read_reply

PATH = "/v1/classify"
BODY_BYTES = (1 << 20) - (1 << 12)
"""Of one request: the service's own limit, less room for what stands around the texts."""
LONGEST_REQUEST_S = 120.0
"""The most that the service lets a request ask for; a call of many requests may take longer."""
FIRST_PAUSE_S = 0.1
"""Before the first retry where the service names no wait; doubled each time."""


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What holds for all calls of a client."""

    timeout_s: float = 10.0
    retries: int = 2
    """Further attempts of each request, where the reason may pass."""
    max_items: int = 256
    """Texts of one request."""


class Send(msgspec.Struct, frozen=True):
    """Post this body, and wait for the reply no longer than this."""

    body: bytes
    timeout_s: float


class Wait(msgspec.Struct, frozen=True):
    """Wait so many seconds."""

    seconds: float


Found = list[Answer | Failed]
Talk = Generator[Send | Wait, Received | NoReply | None, Found]


def exchange(texts: Sequence[str], options: Options, terms: ClientConfig) -> Talk:
    """Hold one call; return what became of each text, in their order.

    Raises:
        ClientError: the call has no answers.
    """
    timeout_s = options.get("timeout_s", terms.timeout_s)
    until = time.monotonic() + timeout_s
    found: Found = []
    for first, part in parts_of(texts, terms.max_items):
        found += yield from _part(part, first, options, terms, until)
    return found


def parts_of(texts: Sequence[str], max_items: int) -> Iterator[tuple[int, Sequence[str]]]:
    """Yield lists within the limits of one request, each with the position of its first text."""
    first, size = 0, 0
    for at, text in enumerate(texts):
        # The encoder writes each text by itself and a comma.
        n_bytes = len(msgspec.json.encode(text)) + 1
        if at > first and (at - first == max_items or size + n_bytes > BODY_BYTES):
            yield first, texts[first:at]
            first, size = at, 0
        size += n_bytes
    if texts:
        yield first, texts[first:]


def _part(texts: Sequence[str], first: int, options: Options, terms: ClientConfig, until: float) -> Talk:
    """Ask for one part; where this service takes less at once, ask for each half."""
    try:
        return (yield from _request(texts, first, options, terms, until))
    except TooLargeError as error:
        if len(texts) == 1 or error.item is not None:
            raise
    middle = len(texts) // 2
    left = yield from _part(texts[:middle], first, options, terms, until)
    right = yield from _part(texts[middle:], first + middle, options, terms, until)
    return left + right


def _request(texts: Sequence[str], first: int, options: Options, terms: ClientConfig, until: float) -> Talk:
    """Ask until there is an answer, or none that may come in time."""
    for attempt in range(terms.retries + 1):
        left = min(until - time.monotonic(), LONGEST_REQUEST_S)
        if left <= 0:
            raise DeadlineError(f"no time was left for the texts from {first} on; allow more with timeout_s")
        # A wait is answered with None and a request never is.
        got = cast(Received | NoReply, (yield Send(_body(texts, options, left), left)))
        if isinstance(got, Received) and got.status == 200:
            return read_reply(got, texts, first)
        error = error_of(got, first)
        if error.kind == "item_failed":
            return [Failed(kind=error.kind, message=str(error), item=first + at) for at in range(len(texts))]
        pause = pause_s(attempt, error.retry_after_s)
        if not error.may_pass or attempt == terms.retries or pause >= until - time.monotonic():
            raise error
        yield Wait(pause)
    raise AssertionError("the last attempt returns or raises")


def pause_s(attempt: int, retry_after_s: float | None) -> float:
    """Return the seconds before the next attempt: what the service asks for and a little, or a pause that doubles.

    The little is random, so that callers who were refused together do not come back together.
    """
    if retry_after_s is not None:
        return retry_after_s * (1 + 0.1 * random.random())
    return FIRST_PAUSE_S * 2.0**attempt * (0.5 + random.random())


def _body(texts: Sequence[str], options: Options, left_s: float) -> bytes:
    asked = {name: value for name, value in options.items() if name != "timeout_s"}
    return msgspec.json.encode(Request(inputs=tuple(texts), timeout_ms=1000 * left_s, **asked))  # type: ignore[arg-type]
