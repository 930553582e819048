"""The protocol of a call without its input and output ("sans-IO"), which both clients share.

`exchange` is a generator: it yields what to send or how long to wait, and is sent the outcome. A client does the
sending and the waiting, with blocking sockets or in an event loop, so that retries, deadlines, and the splitting of
lists exist once.
"""

import random
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import cast

import msgspec

from hybrid.client.errors import DeadlineError, TooLargeError
from hybrid.client.messages import Answer, Failed, Options, Request
from hybrid.client.replies import NoReply, Received, error_of, read_reply

PATH = "/v1/classify"
BODY_BYTES = (1 << 20) - (1 << 12)
"""The most bytes of one request: the service's own limit, less room for the other fields."""
LONGEST_REQUEST_S = 120.0
"""The longest timeout that the service accepts for a request; a call of many requests may take longer."""
FIRST_PAUSE_S = 0.1
"""The pause before the first retry if the service names none; it doubles each time."""


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a client, for all of its calls."""

    timeout_s: float = 10.0
    """The seconds that a call may take, its retries and pauses included."""
    retries: int = 2
    """The most further attempts of each request, for failures that may pass."""
    max_items: int = 256
    """The most texts of one request."""


class Send(msgspec.Struct, frozen=True):
    """A step of the exchange: post this body, and wait for the reply no longer than the timeout."""

    body: bytes
    timeout_s: float


class Wait(msgspec.Struct, frozen=True):
    """A step of the exchange: wait."""

    seconds: float


Answers = list[Answer | Failed]
Exchange = Generator[Send | Wait, Received | NoReply | None, Answers]
"""Yields steps. It is sent the outcome of a `Send` and None after a `Wait`, and returns an answer for each text."""
LeftS = Callable[[], float]
"""The seconds that are left of the call."""


def exchange(
    texts: Sequence[str], options: Options, config: ClientConfig, clock: Callable[[], float] = time.monotonic
) -> Exchange:
    """Run one call; return an answer for each text, in their order. `clock` gives the seconds of its deadline.

    Raises:
        ClientError: there are no answers.
    """
    timeout_s = options.get("timeout_s", config.timeout_s)
    ends_at = clock() + timeout_s

    def left_s() -> float:
        return ends_at - clock()

    answers: Answers = []
    for first, part in parts_of(texts, config.max_items):
        answers += yield from _part(part, first, options, config, left_s)
    return answers


def parts_of(texts: Sequence[str], max_items: int) -> Iterator[tuple[int, Sequence[str]]]:
    """Split a list into parts within the limits of one request; yield each with the position of its first text."""
    first, size = 0, 0
    for at, text in enumerate(texts):
        # A text is encoded by itself, and a comma follows it.
        n_bytes = len(msgspec.json.encode(text)) + 1
        if at > first and (at - first == max_items or size + n_bytes > BODY_BYTES):
            yield first, texts[first:at]
            first, size = at, 0
        size += n_bytes
    if texts:
        yield first, texts[first:]


def _part(texts: Sequence[str], first: int, options: Options, config: ClientConfig, left_s: LeftS) -> Exchange:
    """Send one part; if the service takes fewer texts at once, send each half."""
    try:
        return (yield from _request(texts, first, options, config, left_s))
    except TooLargeError as error:
        if len(texts) == 1 or error.item is not None:
            raise
    middle = len(texts) // 2
    left = yield from _part(texts[:middle], first, options, config, left_s)
    right = yield from _part(texts[middle:], first + middle, options, config, left_s)
    return left + right


def _request(texts: Sequence[str], first: int, options: Options, config: ClientConfig, left_s: LeftS) -> Exchange:
    """Send one request until it is answered, or cannot be answered in time."""
    for attempt in range(config.retries + 1):
        timeout_s = min(left_s(), LONGEST_REQUEST_S)
        if timeout_s <= 0:
            raise DeadlineError(f"no time was left for the texts from {first} on; allow more with timeout_s")
        # Only a wait is followed by None.
        outcome = cast(Received | NoReply, (yield Send(_body(texts, options, timeout_s), timeout_s)))
        if isinstance(outcome, Received) and outcome.status == 200:
            return read_reply(outcome, texts, first)
        error = error_of(outcome, first)
        if error.kind == "item_failed":
            return [Failed(kind=error.kind, message=str(error), item=first + at) for at in range(len(texts))]
        pause = pause_s(attempt, error.retry_after_s)
        if not error.may_pass or attempt == config.retries or pause >= left_s():
            raise error
        yield Wait(pause)
    raise AssertionError("the last attempt returns or raises")


def pause_s(attempt: int, retry_after_s: float | None) -> float:
    """Return the seconds before the next attempt: the wait that the service asks for, or a pause that doubles.

    A random share is added, so that callers who were refused together do not come back together.
    """
    if retry_after_s is not None:
        return retry_after_s * (1 + 0.1 * random.random())
    return FIRST_PAUSE_S * 2.0**attempt * (0.5 + random.random())


def _body(texts: Sequence[str], options: Options, timeout_s: float) -> bytes:
    fields = {name: value for name, value in options.items() if name != "timeout_s"}
    return msgspec.json.encode(Request(inputs=tuple(texts), timeout_ms=1000 * timeout_s, **fields))  # type: ignore[arg-type]
