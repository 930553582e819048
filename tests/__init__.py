"""Tests of hybrid and serving.

One thread a process for torch and OpenMP: tests run side by side, and threads that spin for work which another process's
thread holds up make a tiny training run five times as slow.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
