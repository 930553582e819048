"""The declaration of a protocol and its routes, and the `Call` that a route's function receives."""

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
    """One request with its decoded body: the argument of a route's function."""

    service: Service
    settings: Settings
    request: Request
    route: str
    """The path as declared, with the names of its parameters."""
    body: Any
    """The decoded body, of the type `Operation.asks`; None if there is none."""
    deadline: Deadline
    timings: Timings
    tail: bytes = b""
    """The bytes of the body behind its JSON, where the protocol has any."""


class WithTail(msgspec.Struct, frozen=True, kw_only=True):
    """A reply whose JSON is followed by bytes."""

    head: Any
    tail: bytes


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """A route. The router and the OpenAPI document are both built from it."""

    method: Literal["GET", "POST"]
    path: str
    title: str
    about: str = ""
    asks: Any = None
    """The type of the request's body; None if it has none."""
    reply: Any
    """The type of the reply's body."""
    answer: Callable[[Call], Awaitable[Any]]
    untyped_body: bool = False
    """Whether a body without Content-Type is read, unless a browser sent it: a client of the protocol sends none."""
    json_length_header: str = ""
    """The header that says how many bytes of a body are JSON, where bytes of another kind may follow."""
    public: bool = False
    """Whether it is answered without an API key, like a probe."""


class WireProtocol(msgspec.Struct, frozen=True, kw_only=True):
    """A group of routes that share one error format."""

    name: str
    prefixes: tuple[str, ...]
    """Errors on paths with one of these prefixes use the protocol's error format, even on paths that do not exist."""
    operations: tuple[Operation, ...]
    error_type: Any
    render_error: Callable[[ServingError, str], Any]
    """Renders an error as a reply body, given the error and the id of the request."""
    bad_request_status: int = 400


async def classify(
    call: Call, texts: Sequence[str], options: Options | None = None, deadline: Deadline | None = None
) -> list[Answer | ItemError]:
    """Check the texts against the limits, then have the service answer them.

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
    """Classify as `classify` does, for a protocol that cannot express the failure of a single text.

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
    """Refuse a request with no texts, with too many, or with one that is empty or too long.

    Raises:
        BadRequestError: there are no texts.
        TooLargeError: there are too many texts, or a text is too long.
        UnanswerableError: a text is empty.
    """
    if not texts:
        raise BadRequestError(f"expected 1 to {limits.items} texts, got none")
    if len(texts) > limits.items:
        raise TooLargeError(f"expected at most {limits.items} texts, got {len(texts)}: send them in several requests")
    for number, text in enumerate(texts):
        if len(text) > limits.characters:
            raise TooLargeError(
                f"text {number}: expected at most {limits.characters} characters, got {len(text)}: shorten it",
                item=number,
            )
        if not text.strip():
            raise UnanswerableError(f"text {number} is empty; expected a text with words", item=number)


def check_timeout(timeout_ms: float, limits: Limits, where: str) -> float:
    """Convert a caller's timeout from milliseconds to seconds.

    Raises:
        BadRequestError: it is not above 0, or exceeds the limit.
    """
    if not 0 < timeout_ms <= limits.longest_timeout_ms:
        raise BadRequestError(
            f"{where}: expected milliseconds above 0 and at most {limits.longest_timeout_ms:g}, got {timeout_ms:g}"
        )
    return timeout_ms / 1000
