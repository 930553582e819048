"""How the peers are started, and which of their settings is the best here."""

from pathlib import Path

from peers import peer_python
from served import Server, one_round, running
from served_bundles import Kit

LITSERVE = Path(__file__).with_name("litserve_peer.py")
QUIET = {"DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
TRIED_REQUESTS = 256


def litserve_settings(kit: Kit, batch: int) -> list[Server]:
    """Return LitServe with one worker of two threads and two of one; none where it cannot be installed."""
    python = peer_python("litserve")
    if python is None:
        return []
    return [
        Server(
            name=f"LitServe, batches of {batch}, {workers} x {threads} threads",
            command=lambda port, threads=threads, workers=workers: [
                *(str(python), str(LITSERVE), str(kit.fp32), str(port)),
                *(str(batch), str(threads), str(workers)),
            ],
            path="/predict",
            body=lambda text: {"text": text},
            ready="/health",
            environment=QUIET,
        )
        for workers, threads in ((1, 2), (2, 1))
    ]


def infinity_settings(kit: Kit) -> list[Server]:
    """Return infinity's torch engine with small and large batches, one thread and two; none where it cannot be installed.

    Idle threads wait without spinning, as those of the others do.
    """
    python = peer_python("infinity")
    if python is None:
        return []
    return [
        Server(
            name=f"infinity, torch, batches of {batch}, {threads} threads",
            command=lambda port, batch=batch: [
                *(str(python.with_name("infinity_emb")), "v2", "--model-id", str(kit.checkpoint.resolve())),
                *("--served-model-name", "peer", "--engine", "torch", "--device", "cpu", "--no-bettertransformer"),
                *("--no-model-warmup", "--batch-size", str(batch), "--host", "127.0.0.1", "--port", str(port)),
            ],
            path="/classify",
            body=lambda text: {"model": "peer", "input": [text], "raw_scores": True},
            ready="/health",
            environment=QUIET | {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"},
        )
        for batch, threads in ((1, 1), (1, 2), (32, 2))
    ]


def best(settings: list[Server], texts: list[str], callers: int) -> Server | None:
    """Return the setting with the least processor time a request; None without any that answers."""
    cpu_ms_of: dict[str, float] = {}
    for server in settings:
        try:
            with running(server, texts) as peer:
                cpu_ms_of[server.name] = one_round(peer, callers, TRIED_REQUESTS).cpu_ms
        except RuntimeError as error:
            print(f"skipped: {error}", flush=True)
            continue
        print(f"  tried {server.name}: {cpu_ms_of[server.name]:.2f} ms of processor time a request", flush=True)
    if not cpu_ms_of:
        return None
    name = min(cpu_ms_of, key=cpu_ms_of.__getitem__)
    return next(server for server in settings if server.name == name)
