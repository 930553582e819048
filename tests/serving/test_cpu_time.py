"""Whether a process works, waits or is stopped, as the kernel says."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from serving.engine.process import used_s, works

SPINS = "while True: pass"
SLEEPS = "import time; time.sleep(60)"


def comes_true(claim: Callable[[], bool], within_s: float = 20.0) -> bool:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if claim():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
def test_one_that_spins_works_and_one_that_sleeps_or_is_stopped_does_not() -> None:
    with (
        subprocess.Popen([sys.executable, "-c", SPINS]) as spins,
        subprocess.Popen([sys.executable, "-c", SLEEPS]) as sleeps,
    ):
        try:
            assert comes_true(lambda: not works(sleeps.pid))
            assert works(spins.pid)
            assert comes_true(lambda: used_s(spins.pid) > used_s(sleeps.pid))
            spins.send_signal(signal.SIGSTOP)
            assert comes_true(lambda: not works(spins.pid))
        finally:
            spins.kill()
            sleeps.kill()


def test_of_a_process_that_is_gone_nothing_is_known() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert not works(gone.pid)
    assert used_s(gone.pid) == 0.0
    assert used_s(os.getpid()) > 0.0
