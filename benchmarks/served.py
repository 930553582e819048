"""A server under load: ours or a peer's, in a process of its own, and the load generator beside it."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from processes import cpu_s, tree

PROJECT = Path(__file__).resolve().parent.parent
GENERATOR = Path(__file__).with_name("load_generator.py")
START_S = 120.0
STOP_S = 30.0
POLL_S = 0.01
BODIES, FOUND = "bodies.json", "found.json"


@dataclass(frozen=True)
class Server:
    """How a server is started and asked."""

    name: str
    command: Callable[[int], Sequence[str]]
    """By port."""
    path: str
    body: Callable[[str], dict[str, Any]]
    ready: str
    """The path of the probe that says 200 once requests are taken."""
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Running:
    """A server that runs."""

    server: Server
    pid: int
    port: int
    ready_s: float
    folder: Path
    """With what the generator is told, and what it finds."""


def ours(bundle: Path, name: str = "ours", *settings: str) -> Server:
    """Return our service of a bundle."""
    words = [word for setting in settings for word in ("--set", setting)]
    return Server(
        name=name,
        command=lambda port: [sys.executable, "-m", "serving", str(bundle), "--port", str(port), *words],
        path="/v1/classify",
        body=lambda text: {"inputs": text},
        ready="/readyz",
        environment={"PYTHONPATH": str(PROJECT)},
    )


@contextmanager
def running(server: Server, texts: Sequence[str]) -> Iterator[Running]:
    """Start the server, wait until it is ready, and end it with all that it started."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch, "log")
        Path(scratch, BODIES).write_text(json.dumps([json.dumps(server.body(text)) for text in texts]))
        began = time.perf_counter()
        with log.open("wb") as output:
            process = subprocess.Popen(
                server.command(port),
                stdout=output,
                stderr=output,
                env=os.environ | server.environment,
                start_new_session=True,
            )
        try:
            _wait_ready(process, f"http://127.0.0.1:{port}{server.ready}", log, server.name)
            yield Running(server, process.pid, port, time.perf_counter() - began, Path(scratch))
        finally:
            _end(process)


def _wait_ready(process: "subprocess.Popen[bytes]", url: str, log: Path, name: str) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"{name} ended with {process.returncode}: {log.read_text(errors='replace')[-2000:]}")
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                if reply.status == 200:
                    return
        except OSError:
            time.sleep(POLL_S)
    raise RuntimeError(f"{name} is not ready after {START_S:.0f} s: {log.read_text(errors='replace')[-2000:]}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End the process, and what it leaves behind."""
    all_of_it = tree(process.pid)
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pid in all_of_it[1:]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


@contextmanager
def bare_server() -> Iterator[int]:
    """Yield the port of a server that answers anything at once, from a thread of this idle process."""

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response_only(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


def load(running: Running, **plan: Any) -> dict[str, Any]:
    """Let the generator work to the end; return what it found."""
    return finish_load(running, start_load(running, **plan))


def start_load(running: Running, **plan: Any) -> "subprocess.Popen[bytes]":
    """Start the generator."""
    files = {"bodies": str(running.folder / BODIES), "found": str(running.folder / FOUND)}
    whole = {"port": running.port, "path": running.server.path} | files | plan
    return subprocess.Popen([sys.executable, str(GENERATOR), json.dumps(whole)])


def finish_load(running: Running, generator: "subprocess.Popen[bytes]") -> dict[str, Any]:
    """Return what the generator found, once it has ended."""
    if generator.wait():
        raise RuntimeError(f"the load generator ended with {generator.returncode}")
    content: dict[str, Any] = json.loads((running.folder / FOUND).read_text())
    return content


@dataclass(frozen=True)
class Round:
    """One pass of the corpus."""

    cpu_ms: float
    """Of the whole tree, a request."""
    per_s: float
    """Requests answered a second."""
    ms: list[float]
    """Of each request."""


def one_round(running: Running, callers: int, n_requests: int) -> Round:
    """Return one pass; every request must be answered with 200."""
    before = cpu_s(running.pid)
    measured_load = load(running, callers=callers, requests=n_requests)
    used = cpu_s(running.pid) - before
    if measured_load["statuses"] != {"200": n_requests}:
        raise RuntimeError(f"{running.server.name}: {measured_load['statuses']}; wanted {n_requests} times 200")
    return Round(1000 * used / n_requests, n_requests / measured_load["seconds"], measured_load["ms"])
