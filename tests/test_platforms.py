"""The runtime where there is no fork and no Unix: what Windows and macOS lack is taken away."""

import subprocess
import sys
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden" / "bundle-format-2"
ELSEWHERE = """
import os, sys
for name in ("register_at_fork", "fork", "forkpty", "sched_getaffinity", "nice", "getppid"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("fcntl", "resource", "pwd", "grp", "termios", "pty", "tty", "_posixshmem"):
    sys.modules[name] = None
"""


def run_elsewhere(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", ELSEWHERE + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_runtime_answers_without_anything_that_only_unix_has() -> None:
    code = f"""
import hybrid, hybrid.runtime
classifier = hybrid.load({str(GOLDEN)!r}, threads=2)
print(len(classifier.classify(["boiled rice"])), len(classifier.classify(["The soup was awful.", "boiled rice"] * 40)))
print(classifier.explain("boiled rice").label)
"""
    assert run_elsewhere(code).split() == ["1", "80", "good"]


@pytest.mark.parametrize(
    "module",
    [
        "hybrid.runtime.decoder",
        "hybrid.runtime.engines",
        "hybrid.client",
        "hybrid.config",
        "hybrid.__main__",
        "hybrid.scoring.score",
        "hybrid.doctor.bundle",
    ],
)
def test_what_an_embedder_imports_beside_it_needs_no_unix_either(module: str) -> None:
    run_elsewhere(f"import {module}")


def test_what_is_taken_away_is_missed_where_it_is_used() -> None:
    with pytest.raises(AssertionError, match="ModuleNotFoundError"):
        run_elsewhere("import fcntl")
