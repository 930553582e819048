"""A home that cannot be written, folders of any name, locales of any kind: a run ends, and its bundle answers."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import hybrid
from hybrid import artifacts
from serving.service import ClassifierService
from serving.settings import Settings
from tests.conftest import write_project
from tests.serving.http_requests import client
from tests.serving.live_service import NullObserver
from tests.serving.threaded import served

pytestmark = pytest.mark.slow
NOWHERE = "/proc/nobody"
"""A folder that not even root can make."""
NAME = "Größe und 日本 (x)"
TEXT = "Die Suppe war süß, 美味しい."
ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "OMP_NUM_THREADS") if name in os.environ}


def command(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command with this environment and no other."""
    return subprocess.run(
        [sys.executable, "-m", *words], cwd=cwd, env=ENVIRONMENT | environment, capture_output=True, check=False
    )


@pytest.fixture(scope="module")
def run(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in folders with spaces and letters of several scripts, without a home, in the locale POSIX."""
    folder = tmp_path_factory.mktemp("places") / NAME
    encoder = shutil.copytree(bert, folder / "kleiner Encoder é")
    recipe = write_project(folder / "Rezept ü", encoder)
    words = ["hybrid", "run", str(recipe), "--runs", "Läufe 日本", "--set", "train.epochs=1"]
    done = command(*words, cwd=folder, HOME=NOWHERE, LC_ALL="POSIX")
    assert done.returncode == 0, done.stderr.decode()
    return folder / "Läufe 日本" / "dishes" / "default"


def test_a_run_without_a_home_in_folders_of_any_name_ends_with_a_bundle_that_answers(run: Path) -> None:
    assert (run / "report.html").is_file()
    for engine in ("onnxruntime", "openvino"):
        if engine == "openvino":
            pytest.importorskip("openvino")
        assert hybrid.load(run / "bundle", engine=engine).classify([TEXT])[0].label in ("bad", "good", "plain")
    with served(ClassifierService(run / "bundle", Settings(), NullObserver())) as url:
        reply = client().post(f"{url}/v1/classify", json={"inputs": TEXT})
    assert reply.json()["answers"][0]["label"] in ("bad", "good", "plain")


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "POSIX"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "ascii"},
    ],
    ids=["C", "POSIX", "ascii file names", "latin-1 output", "ascii output"],
)
def test_texts_and_folders_of_any_script_work_in_any_locale(locale: dict[str, str], run: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text(TEXT + "\n", encoding="utf-8")
    words = ["hybrid", "predict", str(run / "bundle"), "--file", "texts.txt"]
    done = command(*words, cwd=tmp_path, HOME=NOWHERE, **locale)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert json.loads(done.stdout.decode("utf-8"))["text"] == TEXT


def test_a_home_that_cannot_be_written_is_one_sentence_that_names_the_setting(tmp_path: Path) -> None:
    done = command("hybrid", "run", "sentiment", "--runs", "runs", cwd=tmp_path, HOME=NOWHERE)
    assert done.returncode == 2, done.stderr.decode()
    last = done.stderr.decode().strip().splitlines()[-1]
    assert "the cache cannot be written" in last
    assert "HYBRID_CACHE" in last


def test_the_cache_may_have_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.test_q4_encoder import by_hand

    monkeypatch.setenv("HYBRID_CACHE", str(tmp_path / NAME))
    name = by_hand(artifacts.cache_dir(), tmp_path, monkeypatch)
    folder = artifacts.fetch(name)
    assert folder.is_relative_to(tmp_path / NAME)
    assert artifacts.fetch(name) == folder
