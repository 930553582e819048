"""The engine of local processes: every item is done whatever dies, and nothing stays behind. Ray without a cluster."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from hybrid.cluster import local
from hybrid.cluster.local import LocalEngine
from hybrid.cluster.ray_cluster import RayEngine
from hybrid.errors import ConfigError, CrashError, DataError


class Squares(msgspec.Struct, frozen=True):
    """Squares numbers; `dying` ends the process, once where `mark` is a file to be made, and `failing` fails."""

    mark: str = ""
    dying: int = -1
    failing: int = -1

    def start(self, threads: int) -> Callable[[int], tuple[int, int]]:
        return self.square

    def square(self, number: int) -> tuple[int, int]:
        if number == self.dying and not (self.mark and Path(self.mark).exists()):
            if self.mark:
                Path(self.mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if number == self.failing:
            raise DataError("row 3: expected a text") if self.mark else ValueError("three")
        return number * number, os.getpid()


@pytest.mark.slow
def test_every_item_is_done_though_a_process_dies(tmp_path: Path) -> None:
    results = list(LocalEngine(2, 1).map(Squares(mark=str(tmp_path / "died"), dying=3), range(12)))
    assert (tmp_path / "died").exists()
    assert sorted(square for square, _ in results) == [n * n for n in range(12)]
    assert len({pid for _, pid in results}) in (2, 3)
    assert os.getpid() not in {pid for _, pid in results}
    assert not multiprocessing.active_children()


class OtherPipe:
    """An end of a pipe that is no `multiprocessing.connection.Connection`, as on Windows."""

    def __init__(self, inner: Connection) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)


@pytest.mark.slow
def test_the_ends_of_a_pipe_may_be_of_the_class_that_windows_has(monkeypatch: pytest.MonkeyPatch) -> None:
    context = local._FORKLESS

    def pipe() -> tuple[OtherPipe, Connection]:
        ours, theirs = context.Pipe()
        return OtherPipe(ours), theirs

    monkeypatch.setattr(local, "_FORKLESS", SimpleNamespace(Pipe=pipe, Process=context.Process))
    assert sorted(square for square, _ in LocalEngine(1, 1).map(Squares(), range(3))) == [0, 1, 4]


@pytest.mark.slow
def test_an_item_that_kills_every_process_ends_the_work_with_a_sentence() -> None:
    with pytest.raises(ConfigError, match=r"item 3: 5 workers died over it.*--workers"):
        list(LocalEngine(1, 1).map(Squares(dying=3), range(2, 5)))
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_errors_of_users_come_through_and_others_are_named() -> None:
    with pytest.raises(DataError, match="row 3: expected a text"):
        list(LocalEngine(1, 1).map(Squares(mark="x", failing=3), range(5)))
    with pytest.raises(CrashError, match="a worker failed: ValueError: three"):
        list(LocalEngine(1, 1).map(Squares(failing=3), range(5)))
    assert not multiprocessing.active_children()


ORPHANS = """
from hybrid.cluster import local
from hybrid.cluster.local import LocalEngine
from tests.test_cluster import Squares
import itertools
if __name__ == "__main__":
    for square, pid in LocalEngine(2, 1).map(Squares(), range(10**9 // 1000)):
        print(pid, flush=True)
"""


@pytest.mark.slow
def test_processes_end_with_their_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = {int(parent.stdout.readline()) for _ in range(50)}
    parent.kill()
    parent.wait()
    for _ in range(200):
        alive = [pid for pid in pids if _is_alive(pid)]
        if not alive:
            break
        time.sleep(0.05)
    assert not alive


@pytest.mark.slow
def test_a_program_that_worker_processes_cannot_import_is_one_sentence() -> None:
    code = "from hybrid.cluster.local import LocalEngine\nfrom tests.test_cluster import Squares\n"
    code += "print(list(LocalEngine(1, 1).map(Squares(), [1])))"
    done = subprocess.run([sys.executable, "-"], input=code, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 1
    assert (
        "CrashError: a worker process ends with status 1 as it starts; a program that starts some is a file"
        in done.stderr
    )


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def engine(address: str = "") -> RayEngine:
    return RayEngine(address=address, workers=None, threads=1, say=print)


def test_without_ray_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"Ray is not installed; run `pip install 'hybrid-cascade\[ray\]'`"):
        engine()


@pytest.mark.slow
def test_an_address_that_does_not_answer_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        with pytest.raises(
            ConfigError, match=rf"Ray at 127\.0\.0\.1:{port}: does not answer \(Connection refused\); start one"
        ):
            engine(f"127.0.0.1:{port}")
    monkeypatch.setenv("RAY_ADDRESS", "nowhere")
    with pytest.raises(ConfigError, match="Ray at nowhere: expected host and port"):
        engine()
    with pytest.raises(ConfigError, match="an address of Ray's client"):
        engine("ray://127.0.0.1:10001")
    sys.stdout.write("")  # is ours again
