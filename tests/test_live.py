"""A live teacher and decoder through the whole story: every answer is paid for once, also across a kill."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hybrid.runtime.bundle import read_bundle
from tests.conftest import ROWS, hybrid_recipe, write_project
from tests.corpus import WORDS
from tests.messages_server import MessagesServer, label

pytestmark = pytest.mark.slow

WORKERS = 4


def judge(handler: Any, body: dict[str, Any]) -> None:
    """Answer with the label whose words stand in the fenced text."""
    fenced = re.search(
        r"<(text-\w+)>\n(.*?)\n</\1>", str(body["messages"][0]["content"]).replace("\\n", "\n"), re.DOTALL
    )
    assert fenced, body
    found = next(name for name, words in WORDS.items() if any(word in fenced[2] for word in words))
    time.sleep(0.01)
    label(found)(handler, body)


def write_live_project(folder: Path, encoder: Path, url: str) -> None:
    sections = "".join(
        f'[{role}]\nmodel = "judge"\nbase_url = "{url}"\nworkers = {WORKERS}\n' for role in ("teacher", "decoder")
    )
    # A target that few rows reach, so that some escalate.
    write_project(folder, encoder, extra=f"{sections}[synthesize]\nper_class = 0\n[calibrate]\ntarget = 0.97\n")


def test_a_killed_run_asks_the_teacher_nothing_twice_and_ends_well(bert: Path, tmp_path: Path) -> None:
    with MessagesServer(judge) as server:
        write_live_project(tmp_path / "dishes", bert, server.url)
        words = ("dishes/recipe.toml", "--runs", "runs", "--set", "train.epochs=2")
        command = [sys.executable, "-m", "hybrid.recipe", *words]
        process = subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        while len(server.bodies) < 60 and process.poll() is None:
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        done = hybrid_recipe(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        n_train, n_test, weighed = ROWS - 180, 90, 90
        asked = Counter(json.dumps(body, sort_keys=True) for body in server.bodies)
        summary = json.loads((tmp_path / "runs/dishes/default/summary.json").read_text())
        escalated = summary["threshold"]["test"]["escalated"]
        assert len(asked) == n_train + weighed + escalated
        assert sum(asked.values()) <= n_train + weighed + escalated + WORKERS  # those in flight at the kill
        assert 0 < escalated <= n_test
        assert summary["threshold"]["test"]["answered"] == escalated
        assert summary["labels"]["wrong_cleaned"] < summary["labels"]["wrong_given"] / 2
        assert summary["llm"]["cost_usd"] is None  # another server's price is not known
        assert read_bundle(tmp_path / "runs/dishes/default/bundle").decoder is not None
        before = len(server.bodies)
        again = hybrid_recipe(*words, cwd=tmp_path)
        assert again.stdout.count("unchanged, skipped") == 9
        assert len(server.bodies) == before


def test_a_live_teacher_that_is_not_there_stops_with_one_sentence(bert: Path, tmp_path: Path) -> None:
    write_live_project(tmp_path / "dishes", bert, "http://127.0.0.1:9")
    sizes = ("split.train=30", "split.calibration=10", "split.test=10", "teacher.workers=30")
    quick = [word for size in sizes for word in ("--set", size)]
    done = hybrid_recipe("dishes/recipe.toml", "--runs", "runs", *quick, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "all 30 requests to judge failed" in done.stderr
