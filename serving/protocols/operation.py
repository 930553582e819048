"""What a protocol declares of a route, and what its function is handed for one request."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

import msgspec
from starlette.requests import Request

from serving.answers import Answer, Options, Timings
from serving.deadline import Deadline
from serving.errors import BadRequestError, ItemError, ServingError, TooLargeError, UnanswerableError
from serving.interfaces import Service
from serving.settings import Limits, Settings

TIMEOUT_HEADER = "X-Request-Timeout-Ms"


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request, its body read."""

    service: Service
    settings: Settings
    request: Request
    route: str
    """The path as declared, not as it came."""
    body: Any
    """Of the type that the operation asks for; None where it asks for none."""
    deadline: Deadline
    timings: Timings


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """A route: the source of the router's entry and of its entry on the OpenAPI page."""

    method: Literal["GET", "POST"]
    path: str
    title: str
    about: str = ""
    asks: Any = None
    """The type of the body; None: it has none."""
    reply: Any
    """The type of the answer."""
    answer: Callable[[Call], Awaitable[Any]]


class WireProtocol(msgspec.Struct, frozen=True, kw_only=True):
    """Routes that share one way to say what went wrong."""

    name: str
    prefixes: tuple[str, ...]
    """Of the paths whose errors have its shape, those that do not exist included."""
    operations: tuple[Operation, ...]
    error_type: Any
    render_error: Callable[[ServingError, str], Any]
    """The body of an error, from it and the request's id."""
    bad_request_status: int = 400


async def classify(
    call: Call, texts: Sequence[str], options: Options | None = None, deadline: Deadline | None = None
) -> list[Answer | ItemError]:
    """Return the service's answers to texts that are within the limits.

    Raises:
        ServingError: the request gets no answer.
    """
    check_texts(texts, call.settings.limits)
    return await call.service.classify(
        texts,
        options=options or Options(),
        deadline=deadline or call.deadline,
        route=call.route,
        timings=call.timings,
    )


async def classify_all(call: Call, texts: Sequence[str], options: Options | None = None) -> list[Answer]:
    """Return the answers, for a protocol that has no place for one item that failed.

    Raises:
        ServingError: the request gets no answer, or one of its texts does not.
    """
    answers = []
    for answer in await classify(call, texts, options):
        if isinstance(answer, ItemError):
            raise answer
        answers.append(answer)
    return answers


def check_texts(texts: Sequence[str], limits: Limits) -> None:
    """Raise where there are too many texts, or one is empty or too long."""
    if not texts:
        raise BadRequestError(f"no text came; want 1 to {limits.items}")
    if len(texts) > limits.items:
        raise TooLargeError(f"{len(texts)} texts came; want at most {limits.items}: send them in several requests")
    for number, text in enumerate(texts):
        if len(text) > limits.characters:
            raise TooLargeError(
                f"text {number} has {len(text)} characters; want at most {limits.characters}: cut it", item=number
            )
        if not text.strip():
            raise UnanswerableError(f"text {number} is empty; want one with words in it", item=number)


def check_timeout(timeout_ms: float, limits: Limits, where: str) -> float:
    """Return the seconds of a timeout that a caller asks for.

    Raises:
        BadRequestError: it is not above 0, or is over the limit.
    """
    if not 0 < timeout_ms <= limits.longest_timeout_ms:
        raise BadRequestError(
            f"{where}: {timeout_ms:g}; want milliseconds above 0 and at most {limits.longest_timeout_ms:g}"
        )
    return timeout_ms / 1000
