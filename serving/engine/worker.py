"""The engine process: batches of token ids in, logits out, until the service closes the socket.

`python -m serving.engine.worker FD`, with the number of an open socket. It imports what runs a graph and no more.
"""

import ctypes
import os
import signal
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from hybrid.errors import HybridError
from hybrid.runtime.integrity import check_file
from hybrid.runtime.session import Session
from hybrid.runtime.session_pool import SessionPool
from serving.engine.ipc import BATCHES_AT_HAND, Batch, Failed, Logits, Open, Opened, Refused, encode_frame, take

PR_SET_PDEATHSIG = 1
"""prctl(2)."""
LEFT_TO_THE_SERVICE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""A terminal or an init system sends them to the whole group, and the service still has requests to answer."""

NICE_INCREMENT = 10
"""Steps of priority below the service: a probe or a refusal is not to wait for the encoder."""


def main() -> None:
    """Serve the socket whose number is the first argument."""
    end_with(parent=os.getppid())
    for number in LEFT_TO_THE_SERVICE:
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICE_INCREMENT)  # before the session starts its threads, which inherit it
    serve(socket.socket(fileno=int(sys.argv[1])))


def serve(connection: socket.socket) -> None:
    """Open the graph that the first frame names, and answer batches until the other side is gone."""
    first = take(connection)
    if not isinstance(first, Open):
        return
    try:
        session = opened(first)
    except HybridError as error:
        connection.sendall(encode_frame(Refused(str(error))))
        return
    connection.sendall(encode_frame(Opened(session.threads)))
    lanes, sending = SessionPool(session, pad_id=first.pad_id), threading.Lock()

    def run(batch: Batch) -> None:
        said = encode_frame(answer(lanes, batch))
        with sending:
            connection.sendall(said)

    with ThreadPoolExecutor(min(session.threads, BATCHES_AT_HAND), thread_name_prefix="batch") as batches:
        while isinstance(batch := take(connection), Batch):
            batches.submit(run, batch)


def opened(wanted: Open) -> Session:
    """Return the session of the graph.

    Raises:
        BundleError: the file was changed, or is no encoder of that many labels.
    """
    path = Path(wanted.model)
    check_file(path, wanted.sha256)  # the bundle may have been replaced since an engine before this one opened it
    session = Session(path, threads=wanted.threads or None, spin_wait=wanted.dedicated)
    session.check(wanted.n_labels)
    return session


def answer(lanes: SessionPool, batch: Batch) -> Logits | Failed:
    """Return the logits of a batch, or why the graph raised."""
    try:
        logits = lanes.run(batch.rows)
    except Exception as error:  # whatever it is, the next batch may be sound
        return Failed(batch.number, f"{type(error).__name__}: {error}")
    return Logits(batch.number, np.ascontiguousarray(logits, dtype=np.float32).tobytes())


def end_with(parent: int) -> None:
    """Have the kernel end this process when its parent dies: a batch that hangs would never see the socket close."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died in between
        os._exit(1)


if __name__ == "__main__":
    main()
