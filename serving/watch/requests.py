"""What belongs to the request under way, wherever in the code it is: its id, and its span where there are traces."""

import re
import uuid
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from serving.watch.tracing import Tracing

HEADER = "x-request-id"
SOUND = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Current(msgspec.Struct, frozen=True, kw_only=True):
    """The request under way."""

    request_id: str
    span: "Span | None" = None
    """Where requests are traced."""


_current: ContextVar[Current | None] = ContextVar("request", default=None)


def current() -> Current | None:
    """Return the request that this task works for; None outside of one."""
    return _current.get()


class RequestContext:
    """Gives every request an id, the caller's where it sent a sound one, and says it in the reply."""

    def __init__(
        self, app: ASGIApp, replied: Callable[[int], None] = lambda _: None, tracing: "Tracing | None" = None
    ) -> None:
        """Wrap an application; `replied` hears the status of every reply, `tracing` is for requests that are traced."""
        self._app = app
        self._replied = replied
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = request_id_of(headers)
        span = self._tracing.begin(scope["method"], scope["path"], headers, request_id) if self._tracing else None
        # What is inside takes the same id.
        named = {**scope, "headers": [*(h for h in scope["headers"] if h[0] != HEADER.encode()), _header(request_id)]}
        token = _current.set(Current(request_id=request_id, span=span))

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = request_id
                self._replied(message["status"])
                if span:
                    span.set_attribute("http.response.status_code", message["status"])
            await send(message)

        try:
            await self._app(named, receive, send_named)
        finally:
            if span:
                span.end()
            _current.reset(token)


def _header(request_id: str) -> tuple[bytes, bytes]:
    return HEADER.encode(), request_id.encode()


def request_id_of(headers: Headers) -> str:
    """Return the id that the caller sent, where it is one that a log can hold, else a new one."""
    sent = headers.get(HEADER, "")
    return sent if SOUND.fullmatch(sent) else uuid.uuid4().hex
