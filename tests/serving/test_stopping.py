"""A stop is quiet while the service starts, and has an end whatever its decoder, its store or a thread does."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pytest

from serving.server import STOP_GRACE_S
from serving.settings import Settings
from tests.messages_server import Handler, MessagesServer
from tests.serving.serving_process import Process, started

SCRIPT = Path(__file__).with_name("signalled_start.py")
PLACES = [
    "hybrid.command_exit:exit_status",
    "hybrid.overrides:merge",
    "serving.server:build",
    "serving.server:_listen",
    "serving.service:ClassifierService.start",
    "serving.replica:Replica.start",
    "serving.engine.process:EngineProcess.start",
    "serving.engine.process:EngineProcess._open",
    "serving.replica:verify_golden",
    "serving.replica:warm_up",
    "serving.telemetry.observer:Telemetry.bundle_changed",
    "serving.__main__:_headline",
]
GIVE_UP_S = 60.0
"""A process that never ends fails its test after this; a stop that works takes a few seconds."""


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_at_any_moment_of_the_start_ends_it_without_a_traceback(
    bundle_dir: Path, place: str, name: str
) -> None:
    command = [sys.executable, str(SCRIPT), name, place, str(bundle_dir), "--port", "0"]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=GIVE_UP_S, env=os.environ | {"PYTHONPATH": root}, check=False
    )
    assert done.returncode in (0, 130), done.stderr
    assert "Traceback" not in done.stderr
    assert "fault of the program" not in done.stderr
    assert '"level":"error"' not in done.stderr


def interim_replies(handler: Handler, body: dict[str, Any]) -> None:
    """Send one interim reply after the other, until the caller leaves."""
    while True:
        handler.wfile.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        time.sleep(0.01)


class Asking(threading.Thread):
    """Has a text put to the decoder; `status` is that of the reply, or what came in its place."""

    def __init__(self, service: Process) -> None:
        super().__init__()
        self.status: object = None
        self._service = service

    def run(self) -> None:
        try:
            self._service.classify(["soup"], escalate="always")
            self.status = 200
        except HTTPError as error:
            self.status = error.code
        except OSError as error:
            self.status = error


@contextmanager
def escalating(bundle_dir: Path, folder: Path, url: str, *words: str) -> Iterator[Process]:
    """A service whose every text escalates to the decoder at `url`."""
    settings = folder / "serving.toml"
    settings.write_text(
        f'reviews = "{folder / "reviews.sqlite"}"\ndrain_s = 1\n'
        f'[decoder]\nmodel = "judge"\nbase_url = "{url}"\nworkers = 4\ndeadline_ms = 100000\nretries = 0\n'
    )
    with started(bundle_dir, "--settings", str(settings), *words) as service:
        yield service


@pytest.mark.slow
@pytest.mark.alone
def test_a_decoder_that_drips_keeps_no_stop_waiting(bundle_dir: Path, tmp_path: Path) -> None:
    with MessagesServer(interim_replies) as decoder, escalating(bundle_dir, tmp_path, decoder.url) as service:
        asking = [Asking(service) for _ in range(5)]
        for thread in asking:
            thread.start()
        while not decoder.bodies:
            time.sleep(0.01)
        service.popen.send_signal(signal.SIGTERM)
        assert service.popen.wait(GIVE_UP_S) == 0
        for thread in asking:
            thread.join(GIVE_UP_S)
        assert {thread.status for thread in asking} <= {200, 503}


def test_a_thread_that_never_ends_is_left_behind() -> None:
    script = (
        "import threading\nfrom serving.server import end_process_in\n"
        "end_process_in(0.1)\nthreading.Thread(target=threading.Event().wait).start()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=GIVE_UP_S, check=False)
    assert done.returncode == 0
    assert b"ending the process" in done.stderr


def test_the_grace_is_what_the_settings_promise() -> None:
    assert STOP_GRACE_S == 2.0
    assert Settings().drain_s + STOP_GRACE_S < 30  # what Kubernetes waits before it kills
