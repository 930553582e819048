"""Lets a proxy pass paths on with its prefix: `/soup/v1/classify` is answered as `/v1/classify` where the prefix is `/soup`."""

from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send


class RootPath:
    """ASGI middleware that takes the prefix off. Paths without it are answered too, such as those of probes."""

    def __init__(self, app: ASGIApp, *, prefix: str) -> None:
        """Wrap an application; with an empty prefix it is left as it is."""
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope.get("path", "")
        if not self._prefix or scope["type"] != "http" or not f"{path}/".startswith(f"{self._prefix}/"):
            await self._app(scope, receive, send)
        elif path == self._prefix and scope["method"] in ("GET", "HEAD"):
            # The page's own paths are relative to the folder that it lies in.
            await RedirectResponse(f"{self._prefix}/")(scope, receive, send)
        else:
            shorter = path[len(self._prefix) :] or "/"
            await self._app(dict(scope, path=shorter, raw_path=shorter.encode()), receive, send)
