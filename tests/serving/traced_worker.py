"""The real engine, which writes down the files of ours that a batch ran through: `python -m tests.serving.traced_worker`."""

import os
from pathlib import Path

from hybrid.runtime.session_pool import SessionPool
from serving.engine import worker
from serving.engine.ipc import Batch, Failed, Logits
from tests.called_files import CalledFiles

FILE = "TRACED_WORKER_FILE"
"""The environment variable with the path to write to."""
real_answer = worker.answer
called = CalledFiles()


def traced_answer(sessions: SessionPool, batch: Batch) -> Logits | Failed:
    called.files.clear()
    reply = real_answer(sessions, batch)
    Path(os.environ[FILE]).write_text("\n".join(sorted(called.files | {"serving/engine/worker.py"})))
    return reply


if __name__ == "__main__":
    worker.answer = traced_answer
    called.start()
    worker.main()
