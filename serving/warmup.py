"""The proof that an engine computes what was measured, and the first warm_up of what it costs."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hybrid.errors import BundleError
from hybrid.runtime.bundle import Bundle
from hybrid.runtime.calibration import apply
from hybrid.runtime.integrity import check_golden
from hybrid.runtime.text_encoder import TextEncoder, pool
from serving.engine.process import EngineError, EngineProcess
from serving.scheduler.cost import BatchCost

PROVE_S = 30.0
"""The most that one batch may take: the first that a graph sees."""


async def verify_golden(engine: EngineProcess, bundle: Bundle, reader: TextEncoder, folder: Path) -> None:
    """Compare the probabilities of the golden texts.

    Raises:
        BundleError: the engine computes something else than it should.
    """
    if not bundle.golden:
        return
    found = []
    for one in reader.read([golden.text for golden in bundle.golden]):
        logits = [await _logits(engine, [ids], folder) for ids in one.windows]
        found.append(pool(np.array(logits, dtype=np.float32)[:, 0], [len(logits)], bundle.reading)[0])
    probs = apply(bundle.calibration, np.stack(found))
    check_golden(bundle.golden, probs, precision=bundle.precision, folder=folder)


async def warm_up(
    engine: EngineProcess, bundle: Bundle, reader: TextEncoder, cost: BatchCost, most_tokens: int
) -> None:
    """Run golden texts alone and in full batches, and tell `cost`; the first batch of each kind warms the graph up.

    Raises:
        BundleError: the graph fails on a full batch.
    """
    rows = [one.windows[0] for one in reader.read([golden.text for golden in bundle.golden])]
    batches = [[row] for row in rows] + [[row] * max(1, most_tokens // len(row)) for row in rows[-1:]]
    for batch in batches:
        tokens = sum(map(len, batch))
        await _logits(engine, batch, Path(bundle.name))
        began = time.perf_counter()
        await _logits(engine, batch, Path(bundle.name))
        cost.add(tokens, tokens, time.perf_counter() - began)


async def _logits(engine: EngineProcess, rows: Sequence[list[int]], folder: Path) -> list[list[float]]:
    try:
        return await engine.run(rows, limit_s=PROVE_S)
    except EngineError as error:
        raise BundleError(f"{folder}: the graph fails on golden texts: {error}; rerun the recipe") from error
