"""DeBERTa-v3 on a CPU: our graphs beside optimum's, BERT-base fused by onnxruntime, and OpenVINO.

`python benchmarks/deberta_onnx.py [ROUNDS]`: random weights of the base architecture (the time does not depend on what
they are), 2 threads, contenders interleaved within a round, ratios of medians over the rounds. Exactness is
measured for all four sizes. Peers stand in environments of their own; one that cannot be installed is skipped.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
import transformers
from peers import peer_python
from targets import bar, finish

from hybrid.encoders.deberta_onnx import export_deberta
from hybrid.encoders.served_precisions import read_source, write_graph_at

THREADS = 2
SHAPES = ((1, 16), (1, 32), (1, 128), (8, 32), (32, 32), (8, 128))
SHORT = 32
LENGTHS = (1, 2, 16, 127, 128, 129, 130, 256, 512)
SIZES = {
    "xsmall": (12, 384, 6, 1536),
    "small": (6, 768, 12, 3072),
    "base": (12, 768, 12, 3072),
    "large": (24, 1024, 16, 4096),
}
"""Layers, hidden size, heads, feed-forward size of the DeBERTa-v3 models."""
VOCABULARY = 128_100
SERVED = "int8_static"
"""What the ladder tries first; `int8_row` is timed too."""
INPUTS = ("input_ids", "attention_mask")
Times = dict[str, dict[tuple[int, int], list[float]]]


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        exactness(folder)
        graphs = our_graphs(folder) | peers_graphs(folder)
        times = timed(graphs, rounds)
        report(graphs, times)
        openvino(graphs["ours fp32"], times, rounds)
    finish()


def exactness(folder: Path) -> None:
    """Compare logits with transformers' eager model for every size and length, with padding."""
    print("largest difference of a logit from transformers, fp32")
    for size in SIZES:
        model = deberta(size, vocabulary=1000)
        path = folder / "exact.onnx"
        export_deberta(model, INPUTS, path, opset=20)
        session = open_session(path)
        worst = max(difference(model, session, length) for length in LENGTHS)
        print(f"  {size:<7} {worst:.1e}")
        bar(f"deberta_exact_{size}", f"{worst:.1e}", "<= 1e-5", worst <= 1e-5)


def difference(model: Any, session: onnxruntime.InferenceSession, length: int) -> float:
    rng = np.random.default_rng(length)
    mask = np.ones((2, length), dtype=np.int64)
    mask[1, max(1, length // 2) :] = 0
    feed = {"input_ids": rng.integers(5, 1000, (2, length)) * mask, "attention_mask": mask}
    with torch.inference_mode():
        theirs = model(**{name: torch.from_numpy(values) for name, values in feed.items()}).logits.numpy()
    return float(np.abs(session.run(None, feed)[0] - theirs).max())


def deberta(size: str, *, vocabulary: int = VOCABULARY, layers: int | None = None) -> Any:
    all_layers, hidden, heads, inner = SIZES[size]
    torch.manual_seed(0)
    config = transformers.DebertaV2Config(
        vocab_size=vocabulary,
        num_hidden_layers=layers or all_layers,
        hidden_size=hidden,
        num_attention_heads=heads,
        intermediate_size=inner,
        relative_attention=True,
        position_buckets=256,
        pos_att_type=["p2c", "c2p"],
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        position_biased_input=False,
        type_vocab_size=0,
        num_labels=3,
    )
    return transformers.DebertaV2ForSequenceClassification(config).eval()


def our_graphs(folder: Path) -> dict[str, Path]:
    """Return our graphs of the base architecture; its checkpoint is left for the peers."""
    model = deberta("base")
    model.save_pretrained(folder / "checkpoint")
    graphs = {"ours fp32": folder / "fp32.onnx"}
    export_deberta(model, INPUTS, graphs["ours fp32"], opset=20)
    rng = np.random.default_rng(0)
    source = read_source(graphs["ours fp32"], [feed((1, int(n))) for n in rng.integers(8, 100, 16)])
    for precision in (SERVED, "int8_mixed", "int8_row"):
        graphs[f"ours {precision}"] = folder / f"{precision}.onnx"
        write_graph_at(source, precision, graphs[f"ours {precision}"])
    return graphs


def peers_graphs(folder: Path) -> dict[str, Path]:
    """Return optimum's graphs of the same checkpoint, and BERT-base as onnxruntime fuses and quantises it."""
    python = peer_python("optimum")
    if python is None:
        return {}
    torch.manual_seed(0)
    bert = transformers.BertForSequenceClassification(transformers.BertConfig(num_labels=3)).eval()
    bert.save_pretrained(folder / "bert")
    exports = {}
    for name in ("checkpoint", "bert"):
        tokenizer_for(folder / name)
        command = [
            python,
            Path(__file__).with_name("optimum_peer.py"),
            "export",
            folder / name,
            folder / f"optimum-{name}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"skipped: optimum did not export {name}: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
            return {}
        exports[name] = json.loads(done.stdout.strip().splitlines()[-1])["files"]
    return {
        "optimum fp32": Path(exports["checkpoint"]["fp32"]),
        "optimum int8": Path(exports["checkpoint"]["int8"]),
        "BERT-base int8": bert_int8(Path(exports["bert"]["fp32"]), folder),
    }


def tokenizer_for(folder: Path) -> None:
    """Write any tokenizer: optimum copies one along."""
    from tokenizers import Tokenizer, models

    tokenizer = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1}, unk_token="[UNK]"))
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]").save_pretrained(folder)


def bert_int8(exported: Path, folder: Path) -> Path:
    """Return BERT-base with onnxruntime's own fusions and dynamic int8: the same sizes of products."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers import optimizer

    fused = optimizer.optimize_model(str(exported), model_type="bert", num_heads=12, hidden_size=768)
    print(f"BERT-base: {fused.get_fused_operator_statistics()}")
    fused.save_model_to_file(str(folder / "bert_fused.onnx"))
    quantize_dynamic(
        folder / "bert_fused.onnx",
        folder / "bert_int8.onnx",
        per_channel=True,
        weight_type=QuantType.QInt8,
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )
    return folder / "bert_int8.onnx"


def feed(shape: tuple[int, int], names: tuple[str, ...] = INPUTS) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(shape[1]).integers(5, 30_000, shape)
    every = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    return {name: every[name] for name in names}


def open_session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def timed(graphs: dict[str, Path], rounds: int) -> Times:
    """Return milliseconds a call by contender and shape, one median a round."""
    sessions = {name: open_session(path) for name, path in graphs.items()}
    times: Times = {name: {shape: [] for shape in SHAPES} for name in graphs}
    for _ in range(rounds):
        for shape in SHAPES:
            for name, session in sessions.items():
                given = feed(shape, tuple(graph_input.name for graph_input in session.get_inputs()))
                times[name][shape].append(median_ms(lambda session=session, given=given: session.run(None, given)))
    return times


def median_ms(call: Any, *, seconds: float = 0.25) -> float:
    call()
    times: list[float] = []
    while len(times) < 3 or sum(times) < seconds:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times)


def ratio(times: Times, slow: str, fast: str, shape: tuple[int, int]) -> float:
    """Return the median over the rounds of one's time over the other's in the same round."""
    return statistics.median(a / b for a, b in zip(times[slow][shape], times[fast][shape], strict=True))


def report(graphs: dict[str, Path], times: Times) -> None:
    ours = f"ours {SERVED}"
    print("\nms a call, median over the rounds" + "".join(f"{f'{b}x{s}':>9}" for b, s in SHAPES) + "       MB  load s")
    for name, path in graphs.items():
        medians = "".join(f"{statistics.median(times[name][shape]):9.1f}" for shape in SHAPES)
        print(f"{name:<33}{medians} {path.stat().st_size / 1e6:8.0f} {load_seconds(path):7.2f}")
    if "optimum fp32" in graphs:
        speed_bar("deberta_fp32_over_optimum", times, "optimum fp32", "ours fp32", SHAPES, 1.2)
        speed_bar("deberta_int8_over_optimum", times, "optimum int8", ours, SHAPES, 1.6)
        short = tuple(shape for shape in SHAPES if shape[1] <= SHORT)
        speed_bar("deberta_int8_over_optimum_short", times, "optimum int8", ours, short, 2.0)
        ratios = {f"{b}x{s}": ratio(times, ours, "BERT-base int8", (b, s)) for b, s in SHAPES}
        print(f"{ours} / BERT-base int8, time: " + ", ".join(f"{shape} {value:.2f}" for shape, value in ratios.items()))
        worst = max(ratios.values())
        bar("deberta_int8_to_bert_int8_time", round(worst, 2), "<= 1.25", worst <= 1.25)
    size, load = graphs[ours].stat().st_size / 1e6, load_seconds(graphs[ours])
    bar("deberta_int8_mb", round(size, 1), "<= 215", size <= 215)
    bar("deberta_int8_load_seconds", round(load, 3), "<= 0.5", load <= 0.5)


def speed_bar(
    name: str, times: Times, peer: str, ours: str, shapes: tuple[tuple[int, int], ...], wanted: float
) -> None:
    ratios = {f"{b}x{s}": ratio(times, peer, ours, (b, s)) for b, s in shapes}
    print(f"{peer} / {ours}: " + ", ".join(f"{shape} {value:.2f}" for shape, value in ratios.items()))
    least = min(ratios.values())
    bar(name, round(least, 2), f">= {wanted}", least >= wanted)


def load_seconds(path: Path) -> float:
    """Return the median of five loads."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        open_session(path)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def openvino(path: Path, times: Times, rounds: int) -> None:
    """Time OpenVINO in bf16 on our fp32 file, where the processor has AMX."""
    if "amx_bf16" not in Path("/proc/cpuinfo").read_text():
        print("skipped: OpenVINO bf16: this processor has no AMX")
        return
    python = peer_python("openvino")
    if python is None or "optimum int8" not in times:
        return
    script = Path(__file__).with_name("openvino_peer.py")
    shapes = [shape for shape in SHAPES if shape[0] * shape[1] >= 8 * 32]
    done = subprocess.run(
        [python, script, path, json.dumps(shapes), str(rounds)], capture_output=True, text=True, check=True
    )
    for shape, peer_ms in zip(shapes, json.loads(done.stdout.strip().splitlines()[-1]), strict=True):
        value = statistics.median(times["optimum int8"][shape]) / statistics.median(peer_ms)
        print(f"OpenVINO bf16 {shape}: {min(peer_ms):.1f} to {max(peer_ms):.1f} ms")
        bar(f"deberta_openvino_bf16_{shape[0]}x{shape[1]}", round(value, 2), ">= 1.5", value >= 1.5)


if __name__ == "__main__":
    main()
