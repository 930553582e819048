"""The web application: every protocol's routes over one service."""

import os
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from serving.errors import MethodError, NotFoundError, ServingError
from serving.http.access import allowed_hosts, read_keys
from serving.http.body import HeldBodies
from serving.http.docs_page import docs_routes
from serving.http.endpoint import endpoint, error_response
from serving.http.middleware import RequestMiddleware, RootPath
from serving.interfaces import Service
from serving.protocols.all import PROTOCOLS
from serving.settings import Settings

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def build_app(service: Service, settings: Settings, extra_routes: Sequence[BaseRoute] = ()) -> Starlette:
    """Build the application; the API keys come from the environment.

    Raises:
        ConfigError: the variable of the API keys is set and has none.
    """
    keys = read_keys(os.environ)
    app = Starlette(
        routes=[*_routes(service, settings), *docs_routes(), *extra_routes],
        middleware=[
            Middleware(RootPath, prefix=settings.root_path),
            Middleware(RequestMiddleware, keys=keys, hosts=allowed_hosts(settings, requires_key=bool(keys))),
        ],
        exception_handlers={HTTPException: _route_not_found, ServingError: _error},
    )
    app.router.redirect_slashes = False  # /v1/classify/ is no route; a redirected POST would arrive without its body
    return app


def _routes(service: Service, settings: Settings) -> list[Route]:
    """Build one route per path; its methods may have different handlers."""
    by_path: dict[str, dict[str, Handler]] = {}
    held = HeldBodies(settings.limits.queued_bytes)
    for protocol in PROTOCOLS:
        for operation in protocol.operations:
            handler = endpoint(operation, service, settings, held)
            by_path.setdefault(operation.path, {})[operation.method] = handler
    return [Route(path, _by_method(handlers), methods=list(handlers)) for path, handlers in by_path.items()]


def _by_method(handlers: dict[str, Handler]) -> Handler:
    """Return the only handler, or one that chooses by the request's method; HEAD is answered as GET."""
    if len(handlers) == 1:
        return next(iter(handlers.values()))

    async def handle(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return handle


def _route_not_found(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.scope["path"]
    if error.status_code == 405:
        allowed = dict(error.headers or {})
        refusal: ServingError = MethodError(f"{request.method} {path}; expected {allowed.get('Allow')}")
        return error_response(refusal, path, request.state.request_id, allowed)
    refusal = NotFoundError(f"no route {path[:200]}; the page /docs lists them")
    return error_response(refusal, path, request.state.request_id)


def _error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ServingError)
    return error_response(error, request.scope["path"], request.state.request_id)
