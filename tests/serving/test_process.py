"""`python -m serving`: says where it serves, ends as it is told to, and leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest

from tests.corpus import texts_and_gold
from tests.serving.bundles import changed, copied, negated
from tests.serving.serving_process import Process, pss_mb, started
from tests.waiting import HANG_S, wait_until

TEXTS = texts_and_gold(16, seed=13)[0]
pytestmark = [pytest.mark.slow, pytest.mark.alone]


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


class Client(threading.Thread):
    """Asks without a pause, a new connection a request, until nobody listens any more."""

    def __init__(self, service: Process) -> None:
        super().__init__()
        self.seen: list[object] = []
        self._service = service

    def run(self) -> None:
        while True:
            try:
                answers = self._service.classify(TEXTS)["answers"]
                assert isinstance(answers, list)
                self.seen.append("answered" if len(answers) == len(TEXTS) else answers)
            except HTTPError as error:
                with error:
                    self.seen.append(error.code)
            except URLError as error:
                self.seen.append(error.reason)
                return
            except (ConnectionError, TimeoutError) as error:
                self.seen.append(error)
                return


def test_it_is_small_and_answers_over_http(bundle_dir: Path) -> None:
    with started(bundle_dir) as service:
        assert service.get("/livez") == service.get("/readyz") == 200
        answers = service.classify(TEXTS)["answers"]
        assert isinstance(answers, list)
        assert [answer["label"] in ("bad", "good", "plain") for answer in answers] == [True] * len(TEXTS)
        pids = [service.popen.pid, *service.engines]
        assert len(pids) == 2
        assert sum(map(pss_mb, pids)) < 200


def events(log: str, name: str) -> int:
    return sum(json.loads(line)["event"] == name for line in log.splitlines())


def test_sigterm_under_load_answers_what_was_accepted_and_leaves_no_process(bundle_dir: Path) -> None:
    with started(bundle_dir) as service:
        [engine] = service.engines
        clients = [Client(service) for _ in range(6)]
        for client in clients:
            client.start()
        wait_until(lambda: all(len(client.seen) > 2 for client in clients))
        service.popen.terminate()
        _, log = service.popen.communicate(timeout=30)
        assert service.popen.returncode == 0
        for client in clients:
            client.join(30)
        assert not alive(engine)
    for client in clients:
        *replies, last = client.seen
        assert set(replies) <= {"answered", 503}
        assert isinstance(last, ConnectionError), last  # the door is closed
        assert replies == sorted(replies, key=lambda one: one == 503)  # once it refuses, it refuses
    # What the service took, the clients have: no reply was cut off.
    seen = [status for client in clients for status in client.seen]
    assert events(log, "answered") == seen.count("answered")
    assert events(log, "refused") == seen.count(503)


def test_while_it_drains_it_is_alive_not_ready_and_refuses(bundle_dir: Path) -> None:
    with started(bundle_dir, "--set", "engine.hung_after_s=60") as service:
        [engine] = service.engines
        os.kill(engine, signal.SIGSTOP)
        client = Client(service)
        client.start()
        time.sleep(0.5)
        service.popen.terminate()
        wait_until(lambda: service.get("/readyz") == 503)
        assert service.get("/livez") == 200
        with pytest.raises(HTTPError, match="503"):
            service.classify(TEXTS)
        assert service.popen.poll() is None
        os.kill(engine, signal.SIGCONT)
        assert service.popen.wait(30) == 0
        client.join(30)
        assert client.seen[0] == "answered"
        assert not alive(engine)


def test_a_drain_has_an_end_though_the_engine_is_stuck(bundle_dir: Path) -> None:
    with started(bundle_dir, "--set", "engine.hung_after_s=60", "--set", "drain_s=1") as service:
        [engine] = service.engines
        os.kill(engine, signal.SIGSTOP)
        client = Client(service)
        client.start()
        time.sleep(0.5)
        service.popen.terminate()
        assert service.popen.wait(HANG_S) == 0
        client.join(30)
        assert client.seen[0] == 503  # told so, and not cut off
        assert not alive(engine)


def test_a_second_sigterm_ends_at_once(bundle_dir: Path) -> None:
    with started(bundle_dir, "--set", "engine.hung_after_s=60") as service:
        [engine] = service.engines
        os.kill(engine, signal.SIGSTOP)
        client = Client(service)
        client.start()
        time.sleep(0.5)
        service.popen.terminate()
        wait_until(lambda: service.get("/readyz") == 503)
        service.popen.terminate()
        assert service.popen.wait(HANG_S) == -signal.SIGTERM
        wait_until(lambda: not alive(engine))
        client.join(30)


def test_sigterm_to_the_whole_group_answers_what_was_accepted(bundle_dir: Path) -> None:
    with started(bundle_dir) as service:
        client = Client(service)
        client.start()
        wait_until(lambda: client.seen)
        for pid in (*service.engines, service.popen.pid):
            os.kill(pid, signal.SIGTERM)
        assert service.popen.wait(30) == 0
        client.join(30)
        assert set(client.seen[:-1]) <= {"answered", 503}


def test_sighup_serves_what_lies_in_the_folder_now(bundle_dir: Path, tmp_path: Path) -> None:
    folder = copied(bundle_dir, tmp_path / "served")
    with started(folder) as service:
        before = service.classify(TEXTS)["bundle_id"]
        negated(bundle_dir, tmp_path / "other")
        for name in ("model.onnx", "bundle.json"):
            os.replace(tmp_path / "other" / name, folder / name)  # noqa: PTH105
        service.popen.send_signal(signal.SIGHUP)
        wait_until(lambda: service.classify(TEXTS)["bundle_id"] != before)
        taken = service.classify(TEXTS)["bundle_id"]
        changed(folder, labels=["one", "two"])
        service.popen.send_signal(signal.SIGHUP)
        wait_until(lambda: 'hybrid_bundle_swaps_total{outcome="refused"} 1.0' in service.read("/metrics"))
        assert service.classify(TEXTS)["bundle_id"] == taken
        assert service.get("/readyz") == 200


def failed(*words: str) -> str:
    command = [sys.executable, "-m", "serving", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    return done.stderr


def test_what_the_user_can_mend_is_said_in_a_sentence(bundle_dir: Path, tmp_path: Path) -> None:
    assert "nowhere: not a bundle" in failed(str(tmp_path / "nowhere"))
    assert "speed: unknown key" in failed(str(bundle_dir), "--set", "speed=1")
    assert "no.toml: cannot be read" in failed(str(bundle_dir), "--settings", str(tmp_path / "no.toml"))
    golden = json.loads((bundle_dir / "bundle.json").read_text())["golden"]
    harmed = changed(copied(bundle_dir, tmp_path / "harmed"), golden=[golden[0] | {"probs": [0.0, 0.0, 1.0]}])
    assert "the golden text" in failed(str(harmed), "--port", "0")
    with started(bundle_dir) as service:
        port = service.url.rpartition(":")[2]
        assert f"127.0.0.1:{port}: cannot listen there" in failed(str(bundle_dir), "--port", port)


def test_settings_come_from_the_file_and_the_command_line_goes_first(bundle_dir: Path, tmp_path: Path) -> None:
    settings = tmp_path / "serving.toml"
    settings.write_text("[limits]\nitems = 3\ncharacters = 100\n")
    with started(bundle_dir, "--settings", str(settings), "--set", "limits.items=2") as service:
        assert len(service.classify(TEXTS[:2])["answers"]) == 2  # type: ignore[arg-type]
        with pytest.raises(HTTPError, match="413"):
            service.classify(TEXTS[:3])
        with pytest.raises(HTTPError, match="413"):
            service.classify(["x" * 101])
