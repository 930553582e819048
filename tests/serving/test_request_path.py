"""How many files of ours one request passes through, in the service and in its engine."""

import os
import sys
from pathlib import Path

import httpx
import pytest

from serving.engine import process
from serving.server import build
from serving.settings import Settings
from tests.called_files import CalledFiles
from tests.serving.threaded import in_thread
from tests.serving.traced_worker import FILE

MOST_FILES = 32
"""A reader who follows one request opens no more files than this."""
BUNDLE = Path(__file__).parent.parent / "golden" / "bundle-format-2"


@pytest.mark.slow
def test_a_request_passes_through_few_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_engine = tmp_path / "files"
    monkeypatch.setattr(process, "COMMAND", (sys.executable, "-m", "tests.serving.traced_worker"))
    monkeypatch.setenv(FILE, str(in_engine))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH", "")])))
    called = CalledFiles()
    called.start()
    try:
        service, app = build(BUNDLE, Settings())
        with in_thread(service, app) as url:
            httpx.get(url + "/livez")
            called.files.clear()
            reply = httpx.post(url + "/v1/classify", json={"inputs": "The soup was cold."})
            files = set(called.files)
    finally:
        called.stop()
    assert reply.status_code == 200
    files |= set(in_engine.read_text().split())
    sys.stdout.write("\n  ".join([f"\none request passes through {len(files)} files:", *sorted(files)]) + "\n")
    assert "serving/engine/worker.py" in files
    assert len(files) <= MOST_FILES
