"""What a protocol declares about a route, and what its function gets for one request."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

import msgspec
from starlette.requests import Request

from serving.errors import BadRequestError, ItemError, ServingError, TooLargeError, UnanswerableError
from serving.interfaces import Service
from serving.settings import Limits, Settings
from serving.types import Answer, Deadline, Options, Timings

TIMEOUT_HEADER = "X-Request-Timeout-Ms"


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request, its body read."""

    service: Service
    settings: Settings
    request: Request
    route: str
    """The path as declared, with the names of its parameters."""
    body: Any
    """The decoded body, of the type `Operation.asks`; None where there is none."""
    deadline: Deadline
    timings: Timings


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """A route: the source of its entries in the router and in the OpenAPI document."""

    method: Literal["GET", "POST"]
    path: str
    title: str
    about: str = ""
    asks: Any = None
    """The type of the body; None where it has none."""
    reply: Any
    """The type of the reply's body."""
    answer: Callable[[Call], Awaitable[Any]]
    public: bool = False
    """Whether it is answered without an API key, as probes are."""


class WireProtocol(msgspec.Struct, frozen=True, kw_only=True):
    """Routes that share one error format."""

    name: str
    prefixes: tuple[str, ...]
    """Paths that begin with one of these have its error format, whether they exist or not."""
    operations: tuple[Operation, ...]
    error_type: Any
    render_error: Callable[[ServingError, str], Any]
    """Renders the body of an error, given it and the request's id."""
    bad_request_status: int = 400


async def classify(
    call: Call, texts: Sequence[str], options: Options | None = None, deadline: Deadline | None = None
) -> list[Answer | ItemError]:
    """Check texts against the limits, and return the service's answers.

    Raises:
        ServingError: the request cannot be answered.
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
    """Do what `classify` does, for a protocol that cannot say that one item failed.

    Raises:
        ServingError: the request cannot be answered, or one of its texts cannot.
    """
    answers = []
    for answer in await classify(call, texts, options):
        if isinstance(answer, ItemError):
            raise answer
        answers.append(answer)
    return answers


def check_texts(texts: Sequence[str], limits: Limits) -> None:
    """Refuse too many texts, and a text that is empty or too long.

    Raises:
        BadRequestError, TooLargeError, UnanswerableError: as the message says.
    """
    if not texts:
        raise BadRequestError(f"no texts; expected 1 to {limits.items}")
    if len(texts) > limits.items:
        raise TooLargeError(f"{len(texts)} texts; expected at most {limits.items}: send them in several requests")
    for number, text in enumerate(texts):
        if len(text) > limits.characters:
            raise TooLargeError(
                f"text {number} has {len(text)} characters; expected at most {limits.characters}: shorten it",
                item=number,
            )
        if not text.strip():
            raise UnanswerableError(f"text {number} is empty; expected one with words in it", item=number)


def check_timeout(timeout_ms: float, limits: Limits, where: str) -> float:
    """Convert a timeout that a caller asks for to seconds.

    Raises:
        BadRequestError: it is not above 0, or is over the limit.
    """
    if not 0 < timeout_ms <= limits.longest_timeout_ms:
        raise BadRequestError(
            f"{where}: {timeout_ms:g}; expected milliseconds above 0 and at most {limits.longest_timeout_ms:g}"
        )
    return timeout_ms / 1000
