"""What holds for every request, whatever its route: an id, a key, and a reply that says what went wrong."""

import logging
import traceback

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import ServingError, UnauthorizedError
from serving.http.auth import PROBES, Keys, key_of
from serving.http.error_response import error_response
from serving.http.request_id import REQUEST_ID, request_id_of

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
