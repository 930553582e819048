"""What the benchmarks of the service measure with: the load that they send, and the processes that they look at."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SLOW_S = 0.2
pytestmark = [pytest.mark.slow, pytest.mark.alone]


@pytest.fixture
def slow_port() -> Iterator[int]:
    """The port of a server that takes `SLOW_S` for an answer and refuses every body that says so."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.answer(200)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if b"refuse" not in body:
                time.sleep(SLOW_S)
            self.answer(429 if b"refuse" in body else 200)

        def answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


def generated(folder: Path, port: int, bodies: list[str], **plan: Any) -> dict[str, Any]:
    (folder / "bodies").write_text(json.dumps(bodies))
    files = {"bodies": str(folder / "bodies"), "found": str(folder / "found")}
    whole = {"port": port, "path": "/"} | files | plan
    subprocess.run([sys.executable, str(BENCHMARKS / "load_generator.py"), json.dumps(whole)], check=True, timeout=60)
    content: dict[str, Any] = json.loads((folder / "found").read_text())
    return content


def test_an_open_loop_sends_on_while_the_service_is_slow_and_a_closed_one_waits(slow_port: int, tmp_path: Path) -> None:
    measurements = generated(tmp_path, slow_port, ["good", "refuse"], rate=40, seconds=2, probes=["/livez"])
    assert {status: len(values) for status, values in measurements["ms"].items()} == {"200": 40, "429": 40}
    assert min(measurements["ms"]["200"]) >= 1000 * SLOW_S
    assert min(measurements["ms"]["429"]) < 1000 * SLOW_S
    assert len(measurements["probe_ms"]) >= 2
    closed = generated(tmp_path, slow_port, ["good"], callers=1, seconds=2)
    assert sum(closed["statuses"].values()) <= 2 / SLOW_S + 1


def test_a_closed_loop_sends_what_was_asked_and_keeps_the_order(slow_port: int, tmp_path: Path) -> None:
    measurements = generated(tmp_path, slow_port, ["good", "refuse"], callers=8, requests=20)
    assert measurements["statuses"] == {"200": 10, "429": 10}
    assert all(ms >= 1000 * SLOW_S for ms in measurements["ms"][::2])
    assert len(measurements["ms"]) == len(measurements["ended_s"]) == 20


def test_what_a_grandchild_uses_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import processes

    burn = "import time\nend = time.process_time() + 0.3\nheld = bytearray(b'x') * 50_000_000\n"
    burn += "while time.process_time() < end: pass\nprint('done', flush=True)\ntime.sleep(60)"
    waits = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    child = subprocess.Popen([sys.executable, "-c", waits], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "done\n"
        alive = processes.tree(child.pid)
        assert len(alive) == 2
        assert processes.cpu_s(child.pid) >= 0.29
        assert processes.memory_mb(child.pid) > 47 > processes.memory_mb(child.pid) - 47
        assert processes.threads(child.pid) == 2
        assert processes.descriptors(child.pid) > 2
    finally:
        for pid in reversed(processes.tree(child.pid)):
            subprocess.run(["kill", "-9", str(pid)], check=False)
        child.wait()
    assert processes.cpu_s(child.pid) == 0
