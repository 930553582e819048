"""Our fp32 graphs of several encoders beside torch's own export, and that fused by onnxruntime's optimizer.

`python benchmarks/graphs.py [ROUNDS]`: fresh weights (the time does not depend on what they are), base sizes cut to
four layers, 2 threads, contenders interleaved within a round, medians over the rounds and their mean over the shapes.
"""

import contextlib
import io
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
import transformers
from targets import bar, finish

from hybrid.encoders.exporting import export_lean, unknown_option
from hybrid.encoders.to_onnx import export_onnx

THREADS = 2
ROUNDS = 5
CALLS = 4
"""Of a graph in a round, for each shape."""
SHAPES = ((1, 16), (1, 128), (8, 32), (4, 64))
INPUTS = ("input_ids", "attention_mask")
LAYERS = 4
VOCABULARY = 1000
SAME = 1.03
"""Ratios below it are the noise of these machines."""
FAMILIES: dict[str, Any] = {
    "bert": transformers.BertConfig,
    "distilbert": transformers.DistilBertConfig,
    "mpnet": transformers.MPNetConfig,
    "modernbert": transformers.ModernBertConfig,
}
"""Configurations by name. To onnxruntime's optimizer all of them are of the kind `bert`."""


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    torch.set_num_threads(THREADS)
    for family in FAMILIES:
        with tempfile.TemporaryDirectory() as scratch:
            compare(family, Path(scratch), rounds)
    finish()


def compare(family: str, folder: Path, rounds: int) -> None:
    """Print the times of each graph of a family, and the bar of ours."""
    sessions = {name: opened(path) for name, path in graphs(family, folder).items()}
    times = timed(sessions, rounds)
    print(f"{family:<12}" + "".join(f"{f'{b}x{s}':>10}" for b, s in SHAPES) + "   median ms")
    for name, by_shape in times.items():
        print(f"  {name:<20}" + "".join(f"{statistics.median(by_shape[shape]):10.2f}" for shape in SHAPES), flush=True)
    over = {
        name: statistics.mean(
            statistics.median(times["ours"][shape]) / statistics.median(by_shape[shape]) for shape in SHAPES
        )
        for name, by_shape in times.items()
    }
    if list(times) == ["ours"]:
        return
    best = max((name for name in times if name != "ours"), key=over.__getitem__)
    bar(f"graphs_{family}_ours_over_the_best_other", f"{over[best]:.3f} ({best})", f"<= {SAME}", over[best] <= SAME)


def graphs(family: str, folder: Path) -> dict[str, Path]:
    """Write the graphs of a family with fresh weights."""
    torch.manual_seed(0)
    settings = {"n_layers" if family == "distilbert" else "num_hidden_layers": LAYERS, "vocab_size": VOCABULARY}
    if family == "modernbert":
        settings |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    whole = FAMILIES[family](num_labels=3, **settings)
    model = transformers.AutoModelForSequenceClassification.from_config(whole).eval()
    plain, ours, target = folder / "torch.onnx", folder / "ours.onnx", folder / "fused.onnx"
    export_onnx(model, INPUTS, plain, opset=20)
    if unknown_option(whole):
        print(f"{family} has no lean graph: ours is torch's")
        graphs = {"ours": plain}
    else:
        export_lean(model, INPUTS, ours, opset=20)
        graphs = {"ours": ours, "torch": plain}
    try:
        return graphs | {"torch, fused": fused(plain, target, whole)}
    except IndexError as error:  # it takes some graphs for others
        print(f"onnxruntime's optimizer cannot read {family}: {error!r}")
        return graphs


def fused(path: Path, target: Path, config: Any) -> Path:
    from onnxruntime.transformers import optimizer

    logging.disable(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        model = optimizer.optimize_model(
            str(path), "bert", num_heads=config.num_attention_heads, hidden_size=config.hidden_size
        )
        model.save_model_to_file(str(target))
    counts = {name: n for name, n in model.get_fused_operator_statistics().items() if n}
    print(f"fused by onnxruntime: {counts or 'nothing'}")
    return target


def opened(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def timed(
    sessions: dict[str, onnxruntime.InferenceSession], rounds: int
) -> dict[str, dict[tuple[int, int], list[float]]]:
    """Return milliseconds a call by graph and shape, after one round that warms up."""
    rng = np.random.default_rng(0)
    feeds = {shape: dict.fromkeys(INPUTS, np.ones(shape, dtype=np.int64)) for shape in SHAPES}
    for shape, feed in feeds.items():
        feed["input_ids"] = rng.integers(5, VOCABULARY, shape)
    times: dict[str, dict[tuple[int, int], list[float]]] = {name: {shape: [] for shape in SHAPES} for name in sessions}
    for number in range(rounds + 1):
        for shape, feed in feeds.items():
            for name, session in sessions.items():
                for _ in range(CALLS):
                    began = time.perf_counter()
                    session.run(None, feed)
                    if number:
                        times[name][shape].append(1000 * (time.perf_counter() - began))
    return times


if __name__ == "__main__":
    main()
