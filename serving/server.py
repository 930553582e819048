"""The service's process: it builds the parts, listens, serves, and stops as init systems expect it to."""

import asyncio
import gc
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import uvicorn
import uvloop
from starlette.applications import Starlette

from hybrid.errors import BundleError, ConfigError
from hybrid.llm import backend_of
from serving.errors import ServingError
from serving.http.app import build_app
from serving.http.connection import protocol_below
from serving.interfaces import Escalator
from serving.page import files as page
from serving.service import ClassifierService
from serving.settings import Settings
from serving.telemetry.logs import GATHER_S, JsonLogs
from serving.telemetry.observer import Telemetry

log = logging.getLogger(__name__)

LAST_BYTES_S = 1
"""How long connections stay open after the last answer, for their clients to read it."""
STOP_GRACE_S = 2.0
"""A stop takes at most this much longer than `drain_s`, whatever a decoder, a disk or a thread does."""
EXIT_MARGIN_S = 0.5
"""What is left of the grace when a process that has not ended by itself is ended."""
KEEP_ALIVE_S = 75
"""How long a connection may be idle: longer than the 60 s of the usual proxies, which would otherwise send a request into
a connection that is being closed."""
ANY_IPV4, ANY_IPV6 = "0.0.0.0", "::"
LISTEN_BACKLOG = 2048
"""Connections that the kernel holds until they are accepted (listen(2))."""
GC_THRESHOLD = 50_000
"""New objects between two runs of the garbage collector, more than a full queue has. A run stops the event loop for tens
of milliseconds and finds next to nothing: requests leave no reference cycles."""

OnReady = Callable[[str], None]


def build(bundle_dir: Path, settings: Settings) -> tuple[ClassifierService, Starlette]:
    """Build the service of a bundle and the application over it; neither has started yet.

    Raises:
        BundleError: the folder is no sound bundle.
        ConfigError: the decoder or the review store cannot be opened.
    """
    telemetry = Telemetry(settings)
    service = ClassifierService(
        bundle_dir,
        settings,
        telemetry,
        _open_escalator(settings, bundle_dir, telemetry),
        on_bundle=telemetry.set_bundle,
        on_stop=telemetry.close,
    )
    app = build_app(service, settings, [*telemetry.routes(), *page.routes()])
    telemetry.attach(app)
    return service, app


def _open_escalator(settings: Settings, bundle_dir: Path, telemetry: Telemetry) -> Escalator | None:
    if backend_of(settings.decoder).is_absent:
        return None
    from serving.decoder.open_decoder import open_decoder  # with the database library, which only a decoder needs

    return open_decoder(settings, bundle_dir, telemetry)


class _Server(uvicorn.Server):
    """uvicorn's server, without its signal handlers: they would stop listening before the service has drained."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(service: ClassifierService, app: Starlette, settings: Settings, *, on_ready: OnReady) -> None:
    """Serve until SIGTERM or SIGINT; `on_ready` is called with the URL once requests are accepted.

    Raises:
        ConfigError: nothing can listen there.
        BundleError: the graph cannot be run, or computes something else than it should.
    """
    _tune_gc()
    with (
        closing(JsonLogs()),
        listening(settings) as listeners,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_serve(service, app, settings, listeners, on_ready))


def _tune_gc() -> None:
    """Keep the objects of now, mostly code, out of garbage collection, and collect less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


@contextmanager
def listening(settings: Settings) -> Iterator[list[socket.socket]]:
    """Listen at every address of the host until the block ends: `localhost` has one of IPv4 and one of IPv6.

    `::` serves both; where the system cannot do that with one socket, `0.0.0.0` is listened at beside it.

    Raises:
        ConfigError: an address cannot be bound.
    """
    with ExitStack() as stack:
        listeners: list[socket.socket] = []
        port = settings.port
        try:
            for family, address in _addresses(settings.host, port):
                listener = _listen(family, address, port)
                listeners.append(stack.enter_context(listener))
                port = listener.getsockname()[1]  # 0 picks one, which is the port of all
        except OSError as error:
            raise ConfigError(
                f"{settings.host}:{settings.port}: cannot listen there ({error.strerror}); "
                "end what does, or name another place with --host and --port"
            ) from error
        yield listeners


def _addresses(host: str, port: int) -> list[tuple[int, str]]:
    """The family and address of each place to listen at."""
    if host == ANY_IPV6:
        both_in_one = socket.has_dualstack_ipv6()
        return [(socket.AF_INET6, ANY_IPV6), *([] if both_in_one else [(socket.AF_INET, ANY_IPV4)])]
    places = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses = [(int(family), str(place[0])) for family, *_, place in places]
    return [place for place in dict.fromkeys(addresses) if len(addresses) == 1 or _has(*place)]


def _has(family: int, address: str) -> bool:
    """Whether this machine has the address: names are often listed with one of IPv6 where that is switched off."""
    try:
        with socket.socket(family) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _listen(family: int, address: str, port: int) -> socket.socket:
    dual = address == ANY_IPV6 and socket.has_dualstack_ipv6()
    return socket.create_server((address, port), family=family, backlog=LISTEN_BACKLOG, dualstack_ipv6=dual)


async def _serve(
    service: ClassifierService,
    app: Starlette,
    settings: Settings,
    listeners: Sequence[socket.socket],
    on_ready: OnReady,
) -> None:
    server = _Server(
        uvicorn.Config(
            app,
            http=protocol_below(settings.root_path),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # the client is the peer of the connection
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=LAST_BYTES_S,
        )
    )
    host, port = listeners[0].getsockname()[:2]
    signals = _Signals(service, server, settings.drain_s + STOP_GRACE_S - EXIT_MARGIN_S)
    starting = asyncio.create_task(service.start())
    # It listens while the engine starts: the probes are answered from the first moment.
    serving = asyncio.create_task(server.serve(sockets=list(listeners)))
    try:
        await asyncio.wait([starting, serving], return_when=asyncio.FIRST_COMPLETED)
        if starting.done() and not server.should_exit:
            starting.result()
            on_ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")
            await serving
    finally:
        server.should_exit = True
        starting.cancel()
        # What a start that is cut short ends with is no news.
        await asyncio.gather(starting, serving, return_exceptions=True)
        await service.stop()
        signals.release()


def end_process_in(seconds: float) -> None:
    """End this process in `seconds` unless it has ended by then: a thread may be in a call that does not end.

    The engine ends with it.
    """
    timer = threading.Timer(seconds, _end_process)
    timer.daemon = True
    timer.start()


def _end_process() -> None:
    log.error("a thread has not ended in time (a decoder, a disk or a name server does not answer); ending the process")
    time.sleep(2 * GATHER_S)  # for the thread that writes the log
    os._exit(0)


class _Signals:
    """Handles SIGTERM, SIGINT and SIGHUP. It holds its tasks, which the loop alone would drop half done."""

    def __init__(self, service: ClassifierService, server: uvicorn.Server, stop_s: float) -> None:
        """Handle them from now on. A process that has not ended `stop_s` after the first one is ended."""
        self._stop_s = stop_s
        self._service = service
        self._server = server
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._end)
        self._reloads = 0
        self._loop.add_signal_handler(signal.SIGHUP, self._start, self._reload)

    def release(self) -> None:
        """Restore the default actions."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._loop.remove_signal_handler(number)

    def _end(self) -> None:
        """Drain at the first signal; the second one ends this process and its engine at once."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        end_process_in(self._stop_s)
        self._start(self._drain)

    async def _drain(self) -> None:
        if await self._service.drain():
            self._server.should_exit = True
        else:
            stopping = asyncio.create_task(self._service.stop())  # waiting callers get an error while they can read it
            self._server.should_exit = True
            await stopping

    async def _reload(self) -> None:
        """Swap to what is in the bundle's folder now; the old bundle continues to serve if that is not sound."""
        if self._reloads > 1:
            return  # one is in progress, and the one waiting behind it will read the folder as it is then
        self._reloads += 1
        try:
            await self._service.swap(str(self._service.folder))
        except (BundleError, ServingError) as error:
            log.error("SIGHUP: the new bundle is refused: %s", error)  # noqa: TRY400 - the message is complete
        finally:
            self._reloads -= 1

    def _start(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        task = self._loop.create_task(work())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
