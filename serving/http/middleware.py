"""Middleware for every request, whatever its route: its path, id and context, who may send it, and error replies."""

import logging
import re
import secrets
import traceback
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import MisdirectedError, ServingError, UnauthorizedError
from serving.http.access import AllowedHosts, Keys, hosts_of, key_of
from serving.http.endpoint import error_response
from serving.protocols.all import PUBLIC_PATHS

if TYPE_CHECKING:
    from opentelemetry.trace import Span

log = logging.getLogger("serving.http")

REQUEST_ID = "X-Request-Id"
SAFE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""An id that is harmless in logs and headers."""

StartSpan = Callable[[str, str, Mapping[str, str], str], "Span"]
"""Starts the trace of a request, given its method, path, headers and id."""


class CurrentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The request that a task works for."""

    request_id: str
    span: "Span | None" = None
    """Its span, where requests are traced."""


_current: ContextVar[CurrentRequest | None] = ContextVar("request", default=None)


def current() -> CurrentRequest | None:
    """The request that this task works for; None outside of one."""
    return _current.get()


def request_id_of(scope: Scope) -> str:
    """The caller's id where it is safe, else a new one; the same at every call for one request."""
    state: dict[str, str] = scope.setdefault("state", {})
    if "request_id" not in state:
        sent = Headers(scope=scope).get(REQUEST_ID, "")
        state["request_id"] = sent if SAFE_ID.fullmatch(sent) else secrets.token_hex(16)
    return state["request_id"]


class RequestContext:
    """Outermost ASGI middleware: `current()` is the request while it is answered, and every reply is counted."""

    def __init__(
        self,
        app: ASGIApp,
        on_reply: Callable[[int], None] = lambda _: None,
        start_span: StartSpan | None = None,
    ) -> None:
        """Wrap an application; `on_reply` is called with the status of every reply, `start_span` for every request."""
        self._app = app
        self._on_reply = on_reply
        self._start_span = start_span

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = request_id_of(scope)
        span = self._span(scope, request_id)
        token = _current.set(CurrentRequest(request_id=request_id, span=span))

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._on_reply(message["status"])
                if span:
                    span.set_attribute("http.response.status_code", message["status"])
            await send(message)

        try:
            await self._app(scope, receive, send_counted)
        finally:
            if span:
                span.end()
            _current.reset(token)

    def _span(self, scope: Scope, request_id: str) -> "Span | None":
        if self._start_span is None:
            return None
        return self._start_span(scope["method"], scope["path"], Headers(scope=scope), request_id)


class RequestMiddleware:
    """ASGI middleware around all routes: asks for the key, sends the request's id, and turns errors into replies."""

    def __init__(self, app: ASGIApp, *, keys: Keys, hosts: AllowedHosts = AllowedHosts()) -> None:  # noqa: B008 frozen
        """Wrap an application; `keys` and `hosts` guard all of it except the probes."""
        self._app = app
        self._keys = keys
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, with an error reply where the application raises."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = request_id_of(scope)
        has_key = scope["state"]["has_key"] = bool(self._keys) and self._keys.accepts(key_of(headers))
        reply = _Reply(send, request_id)
        if scope["path"] not in PUBLIC_PATHS:
            if misdirected := next((host for host in hosts_of(scope["headers"]) if not self._hosts.allows(host)), None):
                await _misdirected(misdirected, scope, receive, reply)
                return
            if self._keys and not has_key:
                await _refuse(headers, scope, receive, reply)
                return
        try:
            await self._app(scope, receive, reply)
        except Exception as error:  # whatever it is, the caller gets a reply and the log a reason
            _log(error, scope, request_id)
            if reply.started:
                raise
            internal = ServingError(f"internal error; the log has the details under the request id {request_id}")
            await error_response(internal, scope["path"], request_id)(scope, receive, reply)


class RootPath:
    """ASGI middleware that takes the prefix off. Paths without it are answered too, such as those of probes."""

    def __init__(self, app: ASGIApp, *, prefix: str) -> None:
        """Wrap an application; with an empty prefix it is left as it is."""
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope.get("path", "")
        shorter = without_prefix(path, self._prefix)
        if scope["type"] != "http" or shorter == path:
            await self._app(scope, receive, send)
        elif path == self._prefix and scope["method"] in ("GET", "HEAD"):
            # The page's own paths are relative to the folder that it lies in.
            await RedirectResponse(f"{self._prefix}/")(scope, receive, send)
        else:
            await self._app(dict(scope, path=shorter, raw_path=shorter.encode()), receive, send)


def without_prefix(path: str, prefix: str) -> str:
    """Take a prefix such as `/soup` off a path; a path without it stays as it is."""
    return (path[len(prefix) :] or "/") if f"{path}/".startswith(f"{prefix}/") else path


class _Reply:
    """Sends on, with the request's id among the headers."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.started = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            MutableHeaders(scope=message)[REQUEST_ID] = self._request_id
        await self._send(message)


async def _misdirected(host: str, scope: Scope, receive: Receive, reply: _Reply) -> None:
    error = MisdirectedError(
        f"Host: got {host[:80]!r}, expected localhost or another name of this service; add the name with the "
        "setting hosts or, where that is empty, set HYBRID_API_KEYS"
    )
    await error_response(error, scope["path"], scope["state"]["request_id"])(scope, receive, reply)


async def _refuse(headers: Headers, scope: Scope, receive: Receive, reply: _Reply) -> None:
    error = UnauthorizedError("no valid API key; send one as `Authorization: Bearer` or `X-API-Key`")
    response = error_response(error, scope["path"], scope["state"]["request_id"])
    if "text/html" in headers.get("accept", ""):  # a browser asks its user for the key, and the page works
        response.headers["WWW-Authenticate"] = 'Basic realm="API key as the password"'
    await response(scope, receive, reply)


def _log(error: Exception, scope: Scope, request_id: str) -> None:
    """Log where an error came from, but not its message, which may contain a text."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("request %s to %s: %s\n%s", request_id, scope["path"], type(error).__name__, frames)
