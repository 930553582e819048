"""What applies to every request whatever its route: an id, an API key, the request's context, and a reply to every error."""

import base64
import binascii
import hmac
import re
import secrets
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hybrid.errors import ConfigError
from serving.settings import API_KEYS

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from serving.telemetry.tracing import Tracing
import logging
import traceback

from starlette.datastructures import MutableHeaders

from serving.errors import ServingError, UnauthorizedError
from serving.http.endpoint import error_response

REQUEST_ID = "X-Request-Id"
SOUND = re.compile(r"[A-Za-z0-9._:-]{1,128}")
"""What is harmless in logs and headers."""


def request_id_of(scope: Scope) -> str:
    """Return the caller's id where it is sound, else a new one; the same however often it is asked for."""
    state: dict[str, str] = scope.setdefault("state", {})
    if "request_id" not in state:
        sent = Headers(scope=scope).get(REQUEST_ID, "")
        state["request_id"] = sent if SOUND.fullmatch(sent) else secrets.token_hex(16)
    return state["request_id"]


PROBES = frozenset({"/livez", "/readyz", "/healthz", "/health", "/v2/health/live", "/v2/health/ready"})
"""Routes that no key guards: they say whether the service lives and takes requests, and nothing else."""


class Keys(msgspec.Struct, frozen=True):
    """The SHA-256 of each key that is accepted; none: nobody is asked for one."""

    digests: tuple[bytes, ...] = ()

    def __bool__(self) -> bool:
        """Return whether a key is asked for."""
        return bool(self.digests)

    def accepts(self, key: bytes) -> bool:
        """Return whether it is one of the keys, in a time that depends on how many there are and nothing else."""
        digest = sha256(key).digest()
        found = False
        for known in self.digests:
            found |= hmac.compare_digest(digest, known)
        return found


def read_keys(environment: Mapping[str, str]) -> Keys:
    """Return the keys of the environment.

    Raises:
        ConfigError: the variable is set and names no key: an open service should be a decision.
    """
    if API_KEYS not in environment:
        return Keys()
    names = [name.strip() for name in environment[API_KEYS].split(",")]
    if not all(names):
        raise ConfigError(
            f"{API_KEYS}: an empty key; want keys separated by commas, or the variable unset where none is asked for"
        )
    return Keys(tuple(sha256(name.encode()).digest() for name in names))


def key_of(headers: Mapping[str, str]) -> bytes:
    """Return the key that a request brings, empty where it brings none.

    `Authorization: Bearer` or `X-API-Key`; a browser sends it as the password of `Authorization: Basic`.
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


log = logging.getLogger("serving.http")


class RequestMiddleware:
    """ASGI middleware around all routes."""

    def __init__(self, app: ASGIApp, *, keys: Keys) -> None:
        """Wrap an application; `keys` guards all of it but the probes."""
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, with an error's reply where the application raises."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        request_id = request_id_of(scope)
        has_key = scope["state"]["has_key"] = bool(self._keys) and self._keys.accepts(key_of(headers))
        reply = _Reply(send, request_id)
        if self._keys and not has_key and scope["path"] not in PROBES:
            await _refuse(headers, scope, receive, reply)
            return
        try:
            await self._app(scope, receive, reply)
        except Exception as error:  # whatever it is, the caller gets a reply and the log a reason
            _log(error, scope, request_id)
            if reply.begun:
                raise
            told = ServingError(f"an error of this service; its log has more under the request id {request_id}")
            await error_response(told, scope["path"], request_id)(scope, receive, reply)


class _Reply:
    """Sends on, with the request's id among the headers."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self.begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            MutableHeaders(scope=message)[REQUEST_ID] = self._request_id
        await self._send(message)


async def _refuse(headers: Headers, scope: Scope, receive: Receive, reply: _Reply) -> None:
    error = UnauthorizedError("no API key that is known; send one as `Authorization: Bearer` or `X-API-Key`")
    response = error_response(error, scope["path"], scope["state"]["request_id"])
    if "text/html" in headers.get("accept", ""):  # a browser asks its user, and the page works
        response.headers["WWW-Authenticate"] = 'Basic realm="API key as the password"'
    await response(scope, receive, reply)


def _log(error: Exception, scope: Scope, request_id: str) -> None:
    """Note where an error came from; not its message, which may hold a text."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    log.error("request %s to %s: %s\n%s", request_id, scope["path"], type(error).__name__, frames)
