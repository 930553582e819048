"""What a new engine does before it serves: reproduce the golden probabilities, and show what a batch costs."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hybrid.errors import BundleError
from hybrid.runtime.bundle import Bundle
from hybrid.runtime.calibration import apply
from hybrid.runtime.integrity import check_golden
from hybrid.runtime.made_with import other_versions
from hybrid.runtime.text_encoder import TextEncoder, pool
from serving.engine.process import EngineError, EngineProcess
from serving.scheduler.admission import BatchCost

log = logging.getLogger(__name__)

BATCH_TIMEOUT_S = 30.0
"""The time limit of one batch; the first batches of a graph are slow."""


async def verify_golden(
    engine: EngineProcess, bundle: Bundle, text_encoder: TextEncoder, folder: Path, *, backend: str, precision: str
) -> None:
    """Compare the engine's probabilities of the golden texts with those that the bundle was written with.

    `backend` is the library that runs the graph, and `precision` what it computes in.

    Raises:
        BundleError: they differ by more than the precision explains.
    """
    if not bundle.golden:
        return
    logits = []
    for text in text_encoder.read([golden.text for golden in bundle.golden]):
        windows = [await _logits(engine, [ids], folder) for ids in text.windows]
        of_labels = np.array([values[: len(bundle.labels)] for (values,) in windows], dtype=np.float32)
        logits.append(pool(of_labels, [len(windows)], bundle.reading)[0])
    probs = apply(bundle.calibration, np.stack(logits))
    others = other_versions(bundle.versions)
    check_golden(bundle.golden, probs, precision=precision, folder=folder, engine=backend, other_versions=others)
    if others:
        log.info("%s: made with %s; its golden texts hold", folder, others)


async def warm_up(
    engine: EngineProcess, bundle: Bundle, text_encoder: TextEncoder, cost: BatchCost, full_batch_tokens: int
) -> None:
    """Run golden texts alone and in full batches, and record in `cost` how long they take.

    Each batch runs twice, and the second run counts: the first one of a shape is slow.

    Raises:
        BundleError: the graph fails on a full batch.
    """
    rows = [text.windows[0] for text in text_encoder.read([golden.text for golden in bundle.golden])]
    batches = [[row] for row in rows] + [[row] * max(1, full_batch_tokens // len(row)) for row in rows[-1:]]
    for batch in batches:
        tokens = sum(map(len, batch))
        await _logits(engine, batch, Path(bundle.name))
        began = time.perf_counter()
        await _logits(engine, batch, Path(bundle.name))
        cost.add(tokens, tokens, time.perf_counter() - began)


async def _logits(engine: EngineProcess, rows: Sequence[list[int]], folder: Path) -> list[list[float]]:
    try:
        return await engine.run(rows, limit_s=BATCH_TIMEOUT_S)
    except EngineError as error:
        raise BundleError(f"{folder}: the graph fails on golden texts: {error}; rerun the recipe") from error
