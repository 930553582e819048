"""OpenVINO beside onnxruntime on this machine: the same encoder, by each engine, at several shapes of batches.

`python benchmarks/engines.py [RUN]`: RUN is a finished run of the sentiment recipe; without it the recipe runs first. The
graph that the run ships runs in onnxruntime and the fp32 graph in OpenVINO, in turn, two threads each. Decisions are
compared with those of the fp32 graph in onnxruntime, on 1,000 training and test texts. The targets for speed are for
processors with AMX; elsewhere the figures are printed and no target is judged.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np
from served_bundles import sentiment_run
from targets import bar, finish

from hybrid.machine.processor import processor
from hybrid.pipeline.requantize import requantize
from hybrid.runtime.bundle import MODEL, read_bundle
from hybrid.runtime.cascade import load
from hybrid.runtime.session import Session

SHAPES = ((1, 16), (1, 32), (1, 128), (8, 32), (32, 32), (8, 128))
MANY = ((8, 32), (32, 32), (8, 128))
"""From 8x32 up, where OpenVINO is to be faster."""
ROUNDS = 15
THREADS = 2
N_TEXTS = 1000
LEAST_RATIO = 1.1
MOST_ALONE = 1.2
LEAST_AGREEMENT = 0.995


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run = sentiment_run(Path(sys.argv[1]) if len(sys.argv) > 1 else None, folder)
        requantize(run, folder / "fp32", "fp32")
        texts = [msgspec.json.decode(line)["text"] for line in (run / "split/rows.jsonl").read_bytes().splitlines()]
        agreement, precision = agreeing(folder / "fp32", texts[:N_TEXTS])
        ratios = compared(run / "bundle", folder / "fp32", precision)
    judged = "AMX-BF16" in (processor().features or ())
    bar("openvino_agreement", round(agreement, 4), f">= {LEAST_AGREEMENT}", agreement >= LEAST_AGREEMENT)
    if not judged:
        print("skipped: no AMX here, and the targets for speed are for processors that have it")
        finish()
    for shape in MANY:
        ratio = ratios[shape]
        bar(f"openvino_{shape[0]}x{shape[1]}", round(ratio, 2), f">= {LEAST_RATIO}", ratio >= LEAST_RATIO)
    alone = 1 / ratios[1, 32]
    bar("openvino_one_text", round(alone, 2), f"<= {MOST_ALONE} of onnxruntime's time", alone <= MOST_ALONE)
    finish()


def agreeing(bundle: Path, texts: list[str]) -> tuple[float, str]:
    """The share of texts that both engines decide alike on the fp32 graph, and what OpenVINO computes in."""
    here, there = load(bundle, threads=THREADS), load(bundle, threads=THREADS, engine="openvino")
    same = here.probs(texts).argmax(axis=1) == there.probs(texts).argmax(axis=1)
    return float(same.mean()), there.precision


def compared(shipped: Path, fp32: Path, precision: str) -> dict[tuple[int, int], float]:
    """Print the milliseconds of each engine at each shape, and return onnxruntime's over OpenVINO's."""
    sessions = {
        f"onnxruntime, {read_bundle(shipped).precision}": Session(shipped / MODEL, threads=THREADS),
        f"openvino, {precision}": Session(fp32 / MODEL, threads=THREADS, engine="openvino"),
    }
    print(f"{processor().name}, {THREADS} threads; ms, medians of {ROUNDS}, in turn")
    ratios = {}
    for shape in SHAPES:
        times: dict[str, list[float]] = {name: [] for name in sessions}
        ids = np.random.default_rng(0).integers(1000, 20_000, shape)
        for number in range(ROUNDS + 1):
            for name, session in sessions.items():
                feed = {key: ids if key == "input_ids" else np.ones_like(ids) for key in session.inputs}
                start = time.perf_counter()
                session.run(feed)
                if number:
                    times[name].append(1000 * (time.perf_counter() - start))
        ours, theirs = (statistics.median(values) for values in times.values())
        ratios[shape] = ours / theirs
        shown = ", ".join(f"{name} {statistics.median(values):7.2f}" for name, values in times.items())
        print(f"{shape[0]:>3}x{shape[1]:<4} {shown}, ratio {ratios[shape]:.2f}")
    return ratios


if __name__ == "__main__":
    main()
