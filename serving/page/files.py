"""Serves the files of the page, with their security headers. They hold no data: the page requests what it shows."""

import hashlib
import mimetypes
from collections.abc import Awaitable, Callable
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

INDEX = "index.html"
PREFIX = "/page/"
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""What the page may load: its own files and the routes of this service, but no inline scripts or styles."""
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}


def routes() -> list[Route]:
    """Build `/` and a route for each file that it loads; all are read now and served from memory."""
    static = files("serving.page").joinpath("static")
    contents = {path.name: path.read_bytes() for path in static.iterdir() if path.is_file()}
    return [
        Route("/" if name == INDEX else PREFIX + name, _endpoint(name, content))
        for name, content in sorted(contents.items())
    ]


def _endpoint(name: str, content: bytes) -> Callable[[Request], Awaitable[Response]]:
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = HEADERS | {"etag": etag}
    media_type = mimetypes.guess_type(name)[0]

    async def file(request: Request) -> Response:
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)

    return file
