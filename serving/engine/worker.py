"""The engine process: batches of token ids in, logits out, until the service closes the socket.

`python -m serving.engine.worker FD`, with the file descriptor of an open socket. It imports only what runs a graph.
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
from serving.engine.ipc import BATCHES_AT_HAND, Batch, Failed, Logits, Open, Opened, Refused, encode_frame, read_frame

PR_SET_PDEATHSIG = 1
"""prctl(2)."""
SIGNALS_OF_THE_SERVICE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ignored here: a terminal or an init system sends them to the whole process group, and the service drains first."""
NICE_INCREMENT = 10
"""Added to the niceness (nice(2)): a probe or a refusal must not wait for the encoder."""


def main() -> None:
    """Serve the socket whose file descriptor is the first argument."""
    exit_with(parent=os.getppid())
    for number in SIGNALS_OF_THE_SERVICE:
        signal.signal(number, signal.SIG_IGN)
    os.nice(NICE_INCREMENT)  # before the session starts its threads, which inherit it
    serve(socket.socket(fileno=int(sys.argv[1])))


def serve(connection: socket.socket) -> None:
    """Open the graph that the first message names, and answer batches until the service is gone."""
    first = read_frame(connection)
    if not isinstance(first, Open):
        return
    try:
        session = open_session(first)
    except HybridError as error:
        connection.sendall(encode_frame(Refused(str(error))))
        return
    connection.sendall(encode_frame(Opened(session.threads, session.in_bf16, session.has_evidence)))
    sessions, sending = SessionPool(session, pad_id=first.pad_id), threading.Lock()

    def run(batch: Batch) -> None:
        frame = encode_frame(answer(sessions, batch))
        with sending:
            connection.sendall(frame)

    with ThreadPoolExecutor(min(session.threads, BATCHES_AT_HAND), thread_name_prefix="batch") as batches:
        while isinstance(batch := read_frame(connection), Batch):
            batches.submit(run, batch)


def open_session(graph: Open) -> Session:
    """Open an ONNX session over the graph.

    Raises:
        BundleError: the file was changed, or is no encoder of that many labels.
        ConfigError: the engine cannot run here.
    """
    path = Path(graph.model)
    check_file(path, graph.sha256)  # the bundle may have been replaced since an engine before this one opened it
    session = Session(path, threads=graph.threads or None, spin_wait=graph.dedicated, engine=graph.engine)
    session.check(graph.n_labels)
    return session


def answer(sessions: SessionPool, batch: Batch) -> Logits | Failed:
    """Run a batch: its logits, or why the graph raised."""
    try:
        logits, tokens = sessions.outputs(batch.rows)
    except Exception as error:  # whatever it is, the next batch may run
        return Failed(batch.number, f"{type(error).__name__}: {error}")
    if tokens:
        logits = np.concatenate([values for row in zip(logits, tokens, strict=True) for values in row])
    return Logits(batch.number, np.ascontiguousarray(logits, dtype=np.float32).tobytes())


def exit_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies: a hung batch would never see the socket close."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died in between
        os._exit(1)


if __name__ == "__main__":
    main()
