"""Whether a text's answer depends on its neighbours: what the sentiment recipe ships, and plain dynamic int8 beside it.

`python benchmarks/batch_invariance.py [RUN]`: 2,000 of the recipe's texts, each alone and in 5 random batchings. RUN is
a finished run, such as runs/sentiment/embedded; without it the recipe runs first, in a folder of its own.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from onnxruntime.quantization import QuantType, quantize_dynamic
from targets import bar, finish

from hybrid.files.table import read_rows
from hybrid.runtime.bundle import Bundle, read_bundle
from hybrid.runtime.calibration import apply
from hybrid.runtime.encoder import Encoder
from hybrid.runtime.session import Session
from hybrid.types import Example

N_TEXTS = 2000
BATCHINGS = 5
MOST_A_BATCH = 64
MOST_SHIFT = 1e-3
PLAIN = "plain dynamic int8"
Feed = dict[str, np.ndarray]


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(sys.argv[1]) if len(sys.argv) > 1 else finished_run(Path(scratch))
        rows = read_rows(run / "split" / "rows.jsonl", Example)[:N_TEXTS]
        bundle, texts = read_bundle(run / "bundle"), [row.text for row in rows]
        graphs = {f"ships: {bundle.precision}": run / "bundle" / "model.onnx"} | other_graphs(run, Path(scratch))
        feeds = alone(run, bundle, texts)
        print(f"{len(texts)} texts in {BATCHINGS} random batchings, beside each alone")
        print(f"{'':<24} largest shift of a probability  changed decisions")
        by_graph = {name: moved(path, bundle, feeds) for name, path in graphs.items()}
    for name, (shift, changed) in by_graph.items():
        print(f"{name:<24} {shift:>30.1e}  {changed:>17}")
    shift, changed = next(iter(by_graph.values()))
    bar("neighbours_shift", f"{shift:.1e}", f"<= {MOST_SHIFT:.0e}", shift <= MOST_SHIFT)
    bar("neighbours_changed_decisions", changed, "0", changed == 0)
    plain = by_graph[PLAIN][0]
    bar("neighbours_plain_dynamic_fails", f"{plain:.1e}", f"> {MOST_SHIFT:.0e}", plain > MOST_SHIFT)
    finish()


def finished_run(folder: Path) -> Path:
    from hybrid.recipe import main as recipe

    if status := recipe(["sentiment", "--runs", str(folder)]):
        sys.exit(status)
    return folder / "sentiment" / "embedded"


def other_graphs(run: Path, folder: Path) -> dict[str, Path]:
    """Return the fp32 graph of the same export, and onnxruntime's own dynamic quantization of it."""
    exported, dynamic = run / "export" / "model.onnx", folder / "dynamic.onnx"
    quantize_dynamic(exported, dynamic, per_channel=True, weight_type=QuantType.QInt8)
    return {"fp32": exported, PLAIN: dynamic}


def alone(run: Path, bundle: Bundle, texts: list[str]) -> list[Feed]:
    """Return what the session gets for each text on its own."""
    return Encoder(run / "bundle", n_labels=len(bundle.labels), reading=bundle.reading).feeds(texts)


def moved(path: Path, bundle: Bundle, feeds: list[Feed]) -> tuple[float, int]:
    """Return the largest change of a calibrated probability, and how many decisions changed, over all batchings."""
    session = Session(path)

    def probs(batches: Iterator[list[int]]) -> np.ndarray:
        values = np.empty((len(feeds), len(bundle.labels)))
        for rows in batches:
            values[rows] = apply(bundle.calibration, session.run(joined([feeds[i] for i in rows])))
        return values

    alone = probs(iter([[i] for i in range(len(feeds))]))
    together = [probs(batching(len(feeds), seed)) for seed in range(BATCHINGS)]
    largest = max(float(np.abs(row - alone).max()) for row in together)
    return largest, sum(int((row.argmax(axis=1) != alone.argmax(axis=1)).sum()) for row in together)


def batching(n: int, seed: int) -> Iterator[list[int]]:
    """Yield all rows in random order, in batches of random sizes."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(n).tolist()
    while order:
        size = int(rng.integers(1, MOST_A_BATCH + 1))
        yield order[:size]
        del order[:size]


def joined(feeds: list[Feed]) -> Feed:
    """Return one feed of several, padded on the right with zeros, which the mask hides."""
    longest = max(feed["input_ids"].shape[1] for feed in feeds)
    return {
        name: np.concatenate([np.pad(feed[name], ((0, 0), (0, longest - feed[name].shape[1]))) for feed in feeds])
        for name in feeds[0]
    }


if __name__ == "__main__":
    main()
