"""A real server on a real socket, its event loop in a thread of the test."""

import asyncio
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from serving.http.app import build_app
from serving.http.connection import BoundedHttpProtocol, protocol_below
from serving.interfaces import Service
from serving.service import ClassifierService
from serving.settings import Settings


@contextmanager
def served(
    service: Service,
    settings: Settings | None = None,
    *,
    http: type[BoundedHttpProtocol] | None = None,
    extra_routes: Sequence[BaseRoute] = (),
) -> Iterator[str]:
    """Serve until the block ends; gives the URL."""
    settings = settings or Settings()
    protocol = http or protocol_below(settings.root_path)
    with in_thread(service, build_app(service, settings, extra_routes), http=protocol) as url:
        yield url


@contextmanager
def in_thread(
    service: Service, app: Starlette, *, http: type[BoundedHttpProtocol] = BoundedHttpProtocol
) -> Iterator[str]:
    """Serve an application until the block ends; gives the URL."""
    config = uvicorn.Config(app, http=http, ws="none", lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    begun = threading.Event()

    async def run(door: socket.socket) -> None:
        if isinstance(service, ClassifierService):
            await service.start()
        serving = asyncio.create_task(server.serve(sockets=[door]))
        while not server.started:
            await asyncio.sleep(0.005)
        begun.set()
        await serving
        if isinstance(service, ClassifierService):
            await service.stop()

    with socket.create_server(("127.0.0.1", 0), backlog=512) as door:
        thread = threading.Thread(target=lambda: asyncio.run(run(door)))
        thread.start()
        try:
            assert begun.wait(60)
            yield f"http://127.0.0.1:{door.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)
    assert not thread.is_alive()
