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
    lines: list[str] = []
    try:
        yield _url(process, lines)
    finally:
        process.terminate()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    assert process.returncode == 0, lines


def _url(process: "subprocess.Popen[str]", lines: list[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if result := re.search(r"ready .* at (http://\S+)", line):
            # What it says later is read as well, or the pipe would fill.
            threading.Thread(target=lines.extend, args=(process.stdout,), daemon=True).start()
            return result[1]
    raise AssertionError(f"it ended: {''.join(lines)}")
