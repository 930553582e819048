"""Middleware for every request, whatever its route: its id, API key and context, and error replies."""

import base64
import binascii
import hmac
import logging
import re
import secrets
import traceback
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hybrid.errors import ConfigError
from serving.errors import MisdirectedError, ServingError, UnauthorizedError
from serving.http.endpoint import error_response
from serving.http.host_check import AllowedHosts, hosts_of
from serving.protocols.all import PUBLIC_PATHS
from serving.settings import API_KEYS

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


class Keys(msgspec.Struct, frozen=True):
    """The SHA-256 of each API key that is accepted; with none, every request is."""

    digests: tuple[bytes, ...] = ()

    def __bool__(self) -> bool:
        """Whether requests need a key."""
        return bool(self.digests)

    def accepts(self, key: bytes) -> bool:
        """Whether this is one of the keys, in a time that depends only on how many there are."""
        digest = sha256(key).digest()
        accepted = False
        for valid_digest in self.digests:
            accepted |= hmac.compare_digest(digest, valid_digest)
        return accepted


def read_keys(environment: Mapping[str, str]) -> Keys:
    """Read the accepted keys from the environment.

    Raises:
        ConfigError: the variable is set and has no key: to serve without keys should be a decision.
    """
    if API_KEYS not in environment:
        return Keys()
    names = [name.strip() for name in environment[API_KEYS].split(",")]
    if not all(names):
        raise ConfigError(
            f"{API_KEYS}: an empty key; expected keys separated by commas, or the variable unset to serve without keys"
        )
    return Keys(tuple(sha256(name.encode()).digest() for name in names))


def key_of(headers: Mapping[str, str]) -> bytes:
    """The key of a request, empty where it has none.

    It comes as `Authorization: Bearer` or `X-API-Key`; a browser sends it as the password of `Authorization: Basic`.
    """
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode("latin-1", "replace")
    if scheme.lower() == "basic":
        return _password(value)
    return headers.get("x-api-key", "").strip().encode("latin-1", "replace")


def _password(value: str) -> bytes:
    try:
        return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
    except (binascii.Error, ValueError):
        return b""


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
