"""What a user of optimum gets: its graphs, and its pipeline. Run by the interpreter of `peers.peer_python("optimum")`.

`optimum_peer.py export MODEL_FOLDER OUT` writes OUT/model.onnx (fp32) and OUT/model_quantized.onnx (dynamic int8, one
scale a channel). `optimum_peer.py pipeline MODEL_FOLDER TEXTS_JSON [FILE [THREADS]]` times the text-classification
pipeline over a graph in that folder, by default model.onnx. The last line of either is JSON.
"""

import json
import os
import sys
import time
from pathlib import Path

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
ROUNDS = 3
POSITIONS = 512
"""Where tokenizer.json does not say at how many tokens it cuts."""


def main() -> None:
    match sys.argv[1:]:
        case ["export", model, out]:
            print(json.dumps(export(Path(model), Path(out))))
        case ["pipeline", model, texts, *rest]:
            file = rest[0] if rest else "model.onnx"
            threads = int(rest[1]) if len(rest) > 1 else len(os.sched_getaffinity(0))
            print(json.dumps(pipeline(Path(model), json.loads(Path(texts).read_text()), file, threads)))
        case _:
            print("skipped: the other benchmarks call this one, as `export` or as `pipeline`")


def export(model: Path, out: Path) -> dict:
    """Write both graphs with config and tokenizer; return their names, sizes in bytes and seconds of work."""
    from optimum.onnxruntime import ORTModelForSequenceClassification, ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig

    start = time.perf_counter()
    ORTModelForSequenceClassification.from_pretrained(model, export=True).save_pretrained(out)
    fast_tokenizer(model).save_pretrained(out)
    exported = time.perf_counter()
    int8 = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
    ORTQuantizer.from_pretrained(out, file_name="model.onnx").quantize(save_dir=out, quantization_config=int8)
    graphs = {"fp32": out / "model.onnx", "int8": out / "model_quantized.onnx"}
    return {
        "files": {name: str(path) for name, path in graphs.items()},
        "bytes": {name: path.stat().st_size for name, path in graphs.items()},
        "seconds": {
            "export": round(exported - start, 2),
            "quantize": round(time.perf_counter() - exported, 2),
        },
        "versions": versions(),
    }


def pipeline(model: Path, texts: list[str], file: str, threads: int) -> dict:
    """Return the CPU and wall milliseconds a text of each batch size, with and without spinning, and the best.

    Each figure is the best of some rounds over all texts in the order given, after one that warms up.
    """
    cut = json.loads((model / "tokenizer.json").read_text())["truncation"]
    max_length = cut["max_length"] if cut else POSITIONS
    timings = []
    for spinning in (True, False):
        classify = ort_pipeline(model, file, threads, spinning=spinning)
        timings += [{"spinning": spinning, **timed(classify, texts, size, max_length)} for size in BATCH_SIZES]
    return {
        "texts": len(texts),
        "threads": threads,
        "max_length": max_length,
        "file": file,
        "best_cpu_ms": min(timings, key=lambda timing: timing["cpu_ms"]),
        "best_wall_ms": min(timings, key=lambda timing: timing["wall_ms"]),
        "all": timings,
        "versions": versions(),
    }


def ort_pipeline(model: Path, file: str, threads: int, *, spinning: bool) -> object:
    """Return optimum's text-classification pipeline over a graph."""
    import onnxruntime
    from optimum.onnxruntime import ORTModelForSequenceClassification
    from optimum.onnxruntime import pipeline as ort

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    loaded = ORTModelForSequenceClassification.from_pretrained(model, file_name=file, session_options=options)
    return ort("text-classification", model=loaded, tokenizer=fast_tokenizer(model), device="cpu")


def timed(classify: object, texts: list[str], batch_size: int, max_length: int) -> dict:
    """Return CPU and wall milliseconds a text."""
    settings = {"batch_size": batch_size, "truncation": True, "max_length": max_length, "top_k": None}
    classify(texts[: 2 * batch_size], **settings)
    cpu, wall = [], []
    for _ in range(ROUNDS):
        start = time.process_time(), time.perf_counter()
        classify(texts, **settings)
        cpu.append(time.process_time() - start[0])
        wall.append(time.perf_counter() - start[1])
    return {
        "batch_size": batch_size,
        "cpu_ms": round(min(cpu) / len(texts) * 1e3, 4),
        "wall_ms": round(min(wall) / len(texts) * 1e3, 4),
    }


def fast_tokenizer(model: Path) -> object:
    """Return the tokenizer of a folder; transformers 5 names classes that 4 does not know, so it is read as it lies."""
    from transformers import PreTrainedTokenizerFast, logging

    logging.set_verbosity_error()  # it warns of just that
    return PreTrainedTokenizerFast.from_pretrained(model)


def versions() -> dict[str, str]:
    """Return what was measured."""
    from importlib.metadata import version

    return {name: version(name) for name in ("optimum-onnx", "transformers", "torch", "onnxruntime")}


if __name__ == "__main__":
    main()
