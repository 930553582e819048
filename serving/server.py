"""The process: its parts put together, listening, serving, and ending as init systems expect it to."""

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import uvicorn
import uvloop
from starlette.applications import Starlette

from hybrid.errors import BundleError, ConfigError
from hybrid.llm import backend_of
from serving.errors import ServingError
from serving.http.app import build_app
from serving.http.connection import BoundedHttpProtocol
from serving.interfaces import Escalator
from serving.page import files as page
from serving.service import ClassifierService
from serving.settings import Settings
from serving.telemetry.logs import JsonLogs
from serving.telemetry.observer import Telemetry

log = logging.getLogger(__name__)

LAST_BYTES_S = 2
"""How long connections may take, after the last answer, until their clients have read it."""
KEEP_ALIVE_S = 75
"""How long a connection may be idle: longer than the 60 s of the usual proxies, who would else send a request into a
connection that is being closed."""
BACKLOG = 2048
"""Connections that the kernel holds until they are accepted."""
OBJECTS_A_SWEEP = 50_000
"""Objects by which their number grows between two looks for unreachable ones. Those of a full queue are fewer, and a
look at so many stops the loop for tens of milliseconds, to find next to nothing: requests leave no rings of objects."""

Say = Callable[[str], None]


class _Server(uvicorn.Server):
    """uvicorn's server, without its signal handlers: they would close the door before the service has drained."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(service: ClassifierService, app: Starlette, settings: Settings, *, say: Say) -> None:
    """Serve until SIGTERM or SIGINT; `say` is told where, once requests are taken.

    Raises:
        ConfigError: nothing can listen there.
        BundleError: the graph cannot be run, or computes something else than it should.
    """
    _set_up_sweeps()
    with closing(JsonLogs()), listen(settings) as door, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(service, app, door, say))


def _set_up_sweeps() -> None:
    """Leave what is there now, mostly code, out of the sweeps for unreachable objects, and have fewer of them."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_A_SWEEP)


def listen(settings: Settings) -> socket.socket:
    """Return a socket that listens where the settings say.

    Raises:
        ConfigError: it cannot.
    """
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"{settings.host}:{settings.port}: cannot listen there ({error.strerror}); "
            "end what does, or name another place with --host and --port"
        ) from error


async def _serve(service: ClassifierService, app: Starlette, door: socket.socket, say: Say) -> None:
    server = _Server(
        uvicorn.Config(
            app,
            http=BoundedHttpProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # who asks for the client wants the one at the other end of the connection
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=LAST_BYTES_S,
        )
    )
    signals = _Signals(service, server)
    starting = asyncio.create_task(service.start())
    # It listens while the engine starts: the probes are answered from the first moment.
    serving = asyncio.create_task(server.serve(sockets=[door]))
    try:
        await asyncio.wait([starting, serving], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            host, port = door.getsockname()[:2]
            say(f"http://{f'[{host}]' if ':' in host else host}:{port}")
            await serving
    finally:
        server.should_exit = True
        starting.cancel()
        await asyncio.wait([starting, serving])
        await service.stop()
        signals.forget()


class _Signals:
    """What SIGTERM, SIGINT and SIGHUP do. Tasks are kept, or the loop would drop them half done."""

    def __init__(self, service: ClassifierService, server: uvicorn.Server) -> None:
        self._service = service
        self._server = server
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._end)
        self._reloads = 0
        self._loop.add_signal_handler(signal.SIGHUP, self._start, self._reload)

    def forget(self) -> None:
        """Leave the signals to the kernel again."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._loop.remove_signal_handler(number)

    def _end(self) -> None:
        """Drain at the first signal; at the second end at once, and the engine with us."""
        for waits in (signal.SIGTERM, signal.SIGINT):
            self._loop.remove_signal_handler(waits)
            signal.signal(waits, signal.SIG_DFL)
        self._start(self._drain)

    async def _drain(self) -> None:
        if not await self._service.drain():
            await self._service.stop()  # who still waits is told so, while there is a connection to say it on
        self._server.should_exit = True

    async def _reload(self) -> None:
        """Serve what now lies in the folder of the bundle; the old one goes on where that is not sound."""
        if self._reloads > 1:
            return  # one is under way, and the one behind it will see the folder as it is then
        self._reloads += 1
        try:
            await self._service.swap(str(self._service.folder))
        except (BundleError, ServingError) as error:
            log.error("SIGHUP: the bundle is not taken: %s", error)  # noqa: TRY400 - the sentence says it all
        finally:
            self._reloads -= 1

    def _start(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        task = self._loop.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def build(bundle_dir: Path, settings: Settings) -> tuple[ClassifierService, Starlette]:
    """Return the service of a bundle and the application that speaks for it; neither has started yet.

    Raises:
        BundleError: the folder is no sound bundle.
        ConfigError: the decoder or the review store cannot be opened.
    """
    watch = Telemetry(settings)
    escalates = _escalation(settings, bundle_dir, watch)
    service = ClassifierService(bundle_dir, settings, watch, escalates, on_bundle=watch.set_bundle, on_stop=watch.close)
    app = build_app(service, settings, [*watch.routes(), *page.routes()])
    watch.attach(app)
    return service, app


def _escalation(settings: Settings, bundle_dir: Path, watch: Telemetry) -> Escalator | None:
    if backend_of(settings.decoder).is_absent:
        return None
    from serving.decoder.open_decoder import open_decoder  # with the database library, which only a decoder needs

    return open_decoder(settings, bundle_dir, watch)
