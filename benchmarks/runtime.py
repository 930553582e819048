"""What the runtime costs over the bare session, beside the pipelines of transformers and optimum; and its memory.

`python benchmarks/runtime.py`. The packaged MiniLM with a fresh head, fp32, two threads, 512 texts of mixed lengths.
Times are process CPU time unless said otherwise, medians of interleaved rounds; each contender has the best of the
batch sizes tried. The memory part answers 100,000 texts in a process of its own, with the first two layers of the
same model: what memory does depends on the shapes, not on the depth.
"""

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from peers import peer_python
from targets import bar, finish

from hybrid.runtime import Classifier

THREADS = 2
MAX_LENGTH = 128
N_TEXTS = 512
PEER_SHARE = 4
"""Optimum's many settings get every fourth text."""
ROUNDS = 7
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
PIPELINE_SIZES = (1, 4, 16, 64)
PAIRS = 400
MEMORY_TEXTS = 100_000
SETTLED = 10_000
MOST_A_CALL = 64
LABELS = ("bad", "good", "plain")
PEER = Path(__file__).with_name("optimum_peer.py")


def main() -> None:
    if sys.argv[1:2] == ["memory"]:
        print(json.dumps(memory(Path(sys.argv[2]))))
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_model(folder / "whole")
        write_model(folder / "shallow", layers=2)
        compare_mixed(folder)
        compare_one(folder / "whole")
        compare_memory(folder / "shallow")
    finish()


def write_model(folder: Path, layers: int | None = None) -> None:
    """Write a checkpoint with a fresh head, and a bundle of it."""
    import torch

    from hybrid.artifacts import fetch
    from hybrid.encoders.checkpoint import load_classifier, load_tokenizer, vocabulary_of, write_tokenizer
    from hybrid.encoders.exporting import export_lean
    from hybrid.runtime.bundle_writer import write_bundle
    from hybrid.runtime.calibration import Calibration, Threshold
    from hybrid.runtime.text_encoder import TextLimits

    torch.manual_seed(0)
    encoder, reading = fetch("all-MiniLM-L6-v2"), TextLimits(max_length=MAX_LENGTH)
    tokenizer, model = load_tokenizer(encoder), load_classifier(encoder, LABELS).eval()
    model.bert.encoder.layer = model.bert.encoder.layer[:layers]
    model.save_pretrained(folder / "checkpoint")
    tokenizer.save_pretrained(folder / "checkpoint")
    (folder / "export").mkdir()
    write_tokenizer(tokenizer, folder / "export" / "tokenizer.json", reading)
    export_lean(model, tuple(tokenizer.model_input_names), folder / "export" / "model.onnx", opset=20)
    write_bundle(
        folder / "bundle",
        exported=folder / "export",
        name="runtime",
        recipe_hash="",
        encoder=str(encoder),
        labels=LABELS,
        reading=reading,
        calibration=Calibration(),
        threshold=Threshold(value=0.5, target=0.9, delta=0.1, n_rows=1, kept=1.0, met=True),
        policy="",
        vocabulary=vocabulary_of(encoder),
        golden_texts=["warm soup"],
    )


def compare_mixed(folder: Path) -> None:
    """CPU time a text over the mixed corpus: ours, the bare session in a loop, and both pipelines."""
    import hybrid

    bundle = folder / "whole" / "bundle"
    texts = corpus(bundle, N_TEXTS)
    classifier = hybrid.load(bundle, threads=THREADS)
    loops = {f"session, batches of {n}": bare_loop(bundle, texts, n) for n in BATCH_SIZES}
    pipelines = {f"pipeline, batches of {n}": torch_pipeline(folder / "whole", texts, n) for n in PIPELINE_SIZES}
    ours = "ours"
    best_loop, best_pipeline = best(loops), best(pipelines)
    chosen = {ours: lambda: classifier.classify(texts)} | best_loop | best_pipeline
    times = interleaved(chosen, ROUNDS)
    for name, rounds in times.items():
        show(name, [1000 * cpu / N_TEXTS for cpu in rounds])
    for name, of, most in (("session_loop", best_loop, 1.05), ("transformers_pipeline", best_pipeline, 0.5)):
        ratio = statistics.median(a / b for a, b in zip(times[ours], times[next(iter(of))], strict=True))
        bar(f"runtime_cpu_over_{name}", round(ratio, 3), f"<= {most}", ratio <= most)
    compare_optimum(folder, texts[::PEER_SHARE], classifier)


def compare_optimum(folder: Path, texts: Sequence[str], classifier: Classifier) -> None:
    """Optimum's pipeline has its own environment and process; ours runs before it and after it, on the same texts."""
    python = peer_python("optimum")
    if python is None:
        return
    (folder / "texts.json").write_text(json.dumps(texts))
    ask_peer(python, "export", folder / "whole" / "checkpoint", folder / "optimum")
    before = [cpu_seconds(lambda: classifier.classify(texts)) for _ in range(ROUNDS)]
    peer = ask_peer(python, "pipeline", folder / "optimum", folder / "texts.json", "model.onnx", THREADS)
    after = [cpu_seconds(lambda: classifier.classify(texts)) for _ in range(ROUNDS)]
    mine = 1000 * statistics.median(before + after) / len(texts)
    theirs = peer["best_cpu_ms"]
    print(
        f"optimum's pipeline, batches of {theirs['batch_size']}: {theirs['cpu_ms']:.3f} ms, ours beside it {mine:.3f}"
    )
    ratio = mine / theirs["cpu_ms"]
    bar("runtime_cpu_over_optimum_pipeline", round(ratio, 3), "<= 0.6", ratio <= 0.6)


def compare_one(folder: Path) -> None:
    """One text: wall time over that of the tokenizer and the session alone."""
    import hybrid

    text = "The soup was warm and the bread was fresh."
    classifier = hybrid.load(folder / "bundle", threads=THREADS)
    tokenizer, session = bare(folder / "bundle")

    def alone() -> object:
        ids = np.array([tokenizer.encode(text).ids], dtype=np.int64)
        return session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})

    walls: dict[str, list[float]] = {"ours": [], "tokenizer and session": []}
    for number in range(PAIRS):
        pair = [("ours", lambda: classifier.classify([text])), ("tokenizer and session", alone)]
        for name, call in pair if number % 2 else reversed(pair):  # who goes first finds the caches colder
            start = time.perf_counter()
            call()
            walls[name].append(1000 * (time.perf_counter() - start))
    for name, values in walls.items():
        show(f"one text, wall, {name}", values)
    over = statistics.median(a - b for a, b in zip(walls["ours"], walls["tokenizer and session"], strict=True))
    bar("runtime_one_text_overhead_ms", round(over, 3), "<= 0.15", over <= 0.15)


def compare_memory(folder: Path) -> None:
    """Resident memory while texts of random lengths come in calls of random size."""
    if not Path("/proc/self/status").exists():
        print("skipped: no /proc here to read the memory of a process from")
        return
    done = subprocess.run([sys.executable, __file__, "memory", str(folder)], capture_output=True, text=True, check=True)
    content = json.loads(done.stdout.splitlines()[-1])
    for n, megabytes in content["megabytes"].items():
        print(f"resident after {int(n):>7,} texts: {megabytes:7.1f} MB")
    bar("runtime_memory_growth_mb", content["growth"], "<= 20", content["growth"] <= 20)


def memory(folder: Path) -> dict[str, Any]:
    """Return resident megabytes by number of texts, and the growth from `SETTLED` to the highest after it."""
    import hybrid

    classifier = hybrid.load(folder / "bundle", threads=THREADS)
    rng = np.random.default_rng(1)
    texts = itertools.cycle(corpus(folder / "bundle", 4096, seed=1))
    megabytes: dict[int, float] = {}
    done, highest = 0, 0.0
    while done < MEMORY_TEXTS:
        call = list(itertools.islice(texts, int(rng.integers(1, MOST_A_CALL + 1))))
        classifier.classify(call)
        before, done = done, done + len(call)
        if before // SETTLED < done // SETTLED:
            megabytes[done] = round(resident(), 1)
        if done >= SETTLED:
            highest = max(highest, resident())
    return {"megabytes": megabytes, "growth": round(highest - next(iter(megabytes.values())), 1)}


def corpus(bundle: Path, n: int, seed: int = 0) -> list[str]:
    """Return texts of whole words whose lengths in tokens have mean 39 and 95th percentile 98, nearly."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(bundle / "tokenizer.json"))
    words = sorted(word for word in tokenizer.get_vocab() if word.isascii() and word.isalpha() and len(word) > 2)
    rng = np.random.default_rng(seed)
    # A log-normal with that mean and percentile; cut at the longest that the encoder reads.
    lengths = np.clip(np.exp(rng.normal(3.425, 0.72, n)), 4, MAX_LENGTH).astype(int)
    texts = [" ".join(rng.choice(words, length - 2)) for length in lengths]
    tokenizer.no_padding()
    tokens = [len(encoding.ids) for encoding in tokenizer.encode_batch(texts)]
    output = f"{n} texts, {np.mean(tokens):.1f} tokens on average, 95th percentile {np.percentile(tokens, 95):.0f}"
    print(output, flush=True)
    return texts


def bare(bundle: Path) -> tuple[Any, Any]:
    """Return the tokenizer and a session with the runtime's own options: threads, no spinning."""
    import onnxruntime
    from tokenizers import Tokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    model = str(bundle / "model.onnx")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return Tokenizer.from_file(str(bundle / "tokenizer.json")), session


def bare_loop(bundle: Path, texts: Sequence[str], size: int) -> Callable[[], object]:
    """Return what somebody writes by hand who knows to sort by length: batches of one size, padded by the tokenizer."""
    tokenizer, session = bare(bundle)

    def loop() -> list[Any]:
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        logits_of: list[Any] = [None] * len(texts)
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            encoded = tokenizer.encode_batch([texts[i] for i in rows])
            ids = np.array([encoding.ids for encoding in encoded])
            mask = np.array([encoding.attention_mask for encoding in encoded])
            for row, logits in zip(rows, session.run(None, {"input_ids": ids, "attention_mask": mask})[0], strict=True):
                logits_of[row] = logits
        return logits_of

    return loop


def torch_pipeline(folder: Path, texts: Sequence[str], size: int) -> Callable[[], object]:
    """Return transformers' text-classification pipeline over the checkpoint, on the texts as they come."""
    import torch
    import transformers

    torch.set_num_threads(THREADS)
    transformers.logging.set_verbosity_error()
    settings = {"batch_size": size, "truncation": True, "max_length": MAX_LENGTH, "top_k": None}
    classify = transformers.pipeline("text-classification", model=str(folder / "checkpoint"), device="cpu")
    return lambda: classify(list(texts), **settings)


def ask_peer(python: Path, *arguments: object) -> dict[str, Any]:
    command = [str(python), "-W", "ignore", str(PEER), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    content: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return content


def best(calls: dict[str, Callable[[], object]]) -> dict[str, Callable[[], object]]:
    """Return the call that takes the least CPU time, the lower of two rounds each."""
    times = interleaved(calls, 2)
    name = min(calls, key=lambda call: min(times[call]))
    for call in calls:
        print(f"  tried {call}: {1000 * min(times[call]) / N_TEXTS:.3f} ms", flush=True)
    return {name: calls[name]}


def interleaved(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return CPU seconds by call, in rounds of all calls."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            times[name].append(cpu_seconds(call))
    return times


def cpu_seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def resident() -> float:
    """Return the resident memory of this process in megabytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def show(name: str, values: Sequence[float]) -> None:
    spread = f"{min(values):.3f} to {max(values):.3f}, n = {len(values)}"
    print(f"{name:<40} median {statistics.median(values):.3f} ms, {spread}", flush=True)


if __name__ == "__main__":
    main()
