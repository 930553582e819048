"""Whether a process works, waits or is stopped, as the kernel says."""

import os
import signal
import subprocess
import sys

import pytest

from serving.engine.process import cpu_s, is_working
from tests.waiting import wait_until

pytestmark = pytest.mark.alone


SPINS = "while True: pass"
SLEEPS = "import time; time.sleep(60)"


@pytest.mark.slow
def test_one_that_spins_works_and_one_that_sleeps_or_is_stopped_does_not() -> None:
    with (
        subprocess.Popen([sys.executable, "-c", SPINS]) as spins,
        subprocess.Popen([sys.executable, "-c", SLEEPS]) as sleeps,
    ):
        try:
            wait_until(lambda: not is_working(sleeps.pid))
            assert is_working(spins.pid)
            wait_until(lambda: cpu_s(spins.pid) > cpu_s(sleeps.pid))
            spins.send_signal(signal.SIGSTOP)
            wait_until(lambda: not is_working(spins.pid))
        finally:
            spins.kill()
            sleeps.kill()


def test_of_a_process_that_is_gone_nothing_is_known() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert not is_working(gone.pid)
    assert cpu_s(gone.pid) == 0.0
    assert cpu_s(os.getpid()) > 0.0
