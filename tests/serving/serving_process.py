"""`python -m serving` as a user starts it: a process on a free port, and never one left behind."""

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError

import msgspec


class Process(msgspec.Struct, frozen=True):
    """A service that runs."""

    popen: subprocess.Popen[str]
    url: str

    @property
    def engines(self) -> list[int]:
        """The numbers of its engine processes."""
        return children(self.popen.pid)

    def get(self, path: str) -> int:
        return status_of(urllib.request.Request(self.url + path))

    def read(self, path: str) -> str:
        with urllib.request.urlopen(self.url + path, timeout=10) as reply:
            return str(reply.read().decode())

    def classify(self, texts: list[str], timeout_s: float = 30.0, **options: str) -> dict[str, object]:
        request = urllib.request.Request(
            f"{self.url}/v1/classify",
            json.dumps({"inputs": texts, "timeout_ms": timeout_s * 1000, **options}).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=timeout_s) as reply:
            loaded: dict[str, object] = json.load(reply)
        return loaded


def status_of(request: urllib.request.Request) -> int:
    try:
        with urllib.request.urlopen(request, timeout=10) as reply:
            return int(reply.status)
    except HTTPError as error:
        error.close()
        return error.code


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def pss_mb(pid: int) -> float:
    """Resident memory, what is shared with others in equal parts."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


@contextmanager
def started(bundle: Path, *words: str) -> Iterator[Process]:
    command = [sys.executable, "-m", "serving", str(bundle), "--port", "0", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as popen:
        assert popen.stdout
        assert popen.stderr
        lines: list[str] = []
        try:
            while not lines or " at http://" not in lines[-1]:
                line = popen.stdout.readline()
                assert line, popen.stderr.read()
                lines.append(line.strip())
            yield Process(popen, lines[-1].rpartition(" at ")[2])
        finally:
            if popen.poll() is None:
                popen.send_signal(signal.SIGCONT)
                popen.terminate()
                try:
                    popen.communicate(timeout=30)
                except subprocess.TimeoutExpired:
                    popen.kill()
                    raise
