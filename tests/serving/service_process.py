"""A service in a process of its own, as users start it."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def started(bundle: Path, *words: str, **environment: str) -> Iterator[str]:
    """Start `python -m serving` on a free port; yield its URL once it is ready, and end it by SIGTERM."""
    command = [sys.executable, "-m", "serving", str(bundle), "--port", "0", *words]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | environment
    )
    said: list[str] = []
    try:
        yield _url(process, said)
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    assert process.returncode == 0, said


def _url(process: "subprocess.Popen[str]", said: list[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if found := re.search(r"ready .* at (http://\S+)", line):
            # What it says later is read as well, or the pipe would fill.
            threading.Thread(target=said.extend, args=(process.stdout,), daemon=True).start()
            return found[1]
    raise AssertionError(f"it ended: {''.join(said)}")
