"""Each example runs as it says."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

import hybrid
from tests.corpus import texts_and_gold
from tests.serving.service_process import started
from tests.waiting import HANG_S

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TEXTS = texts_and_gold(5, seed=7)[0]
pytestmark = pytest.mark.slow


def run(name: str, *words: str) -> list[str]:
    command = [sys.executable, str(EXAMPLES / name), *words]
    output = subprocess.run(command, input="\n".join(TEXTS), capture_output=True, text=True, check=False, timeout=120)
    assert output.returncode == 0, output.stderr
    return output.stdout.splitlines()


def test_the_script_labels_its_lines(bundle_dir: Path) -> None:
    wanted = hybrid.load(bundle_dir).classify(TEXTS)
    results = [line.split("\t") for line in run("embed_script.py", str(bundle_dir))]
    assert [cells[2] for cells in results] == TEXTS
    assert [cells[0] for cells in results] == ["?" if expected.escalate else expected.label for expected in wanted]


def test_the_service_is_called_for_one_text_and_for_many(bundle_dir: Path) -> None:
    with started(bundle_dir) as url:
        first, *rest = run("call_service.py", url)
    wanted = [item.label for item in hybrid.load(bundle_dir).classify(TEXTS)]
    assert first.startswith(("accepted: ", "escalated: "))
    assert rest == [f"{label}\t{text}" for label, text in zip(wanted, TEXTS, strict=True)]


def test_fastapi_answers_with_the_bundle_in_its_own_process(bundle_dir: Path) -> None:
    pytest.importorskip("fastapi")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "uvicorn", "embed_fastapi:app", "--port", str(port), "--log-level", "warning"]
    process = subprocess.Popen(command, cwd=EXAMPLES, env=os.environ | {"BUNDLE": str(bundle_dir)})
    try:
        body = json.dumps({"texts": TEXTS}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/classify", body, headers={"content-type": "application/json"}
        )
        content = json.loads(answered(request, process))
    finally:
        process.terminate()
        process.wait(timeout=30)
    wanted = hybrid.load(bundle_dir).classify(TEXTS)
    assert [(entry["label"], entry["escalate"]) for entry in content] == [
        (expected.label, expected.escalate) for expected in wanted
    ]


def answered(request: urllib.request.Request, process: "subprocess.Popen[bytes]") -> bytes:
    gives_up_at = time.monotonic() + HANG_S
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return bytes(reply.read())
        except OSError:
            assert process.poll() is None, "it ended"
            assert time.monotonic() < gives_up_at, "it never answered"
            time.sleep(0.1)
