"""What belongs to the request under way, wherever in the code it is: its id, and its span where there are traces."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING

import msgspec
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.http.request_id import request_id_of

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from serving.telemetry.tracing import Tracing


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
    """Has what belongs to a request at hand while it is answered."""

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
        request_id = request_id_of(scope)
        span = self._span(scope, request_id)
        token = _current.set(Current(request_id=request_id, span=span))

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._replied(message["status"])
                if span:
                    span.set_attribute("http.response.status_code", message["status"])
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            if span:
                span.end()
            _current.reset(token)

    def _span(self, scope: Scope, request_id: str) -> "Span | None":
        if self._tracing is None:
            return None
        return self._tracing.begin(scope["method"], scope["path"], Headers(scope=scope), request_id)
