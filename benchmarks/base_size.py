"""A DeBERTa-v3 of full size through the whole recipe: seconds and peak memory of each stage.

`python benchmarks/base_size.py [--size base|large] [--steps N]`. Random weights of the published architecture and a
tokenizer of 128,000 pieces: the time and the memory of a step do not depend on what the weights are, the accuracy does,
and none is printed. `base` goes through `python -m hybrid.recipe` (batches of 16 texts of 128 tokens), and its bundle
answers in `python -m serving`; `large` is exported and loaded alone. On two cores `base` takes most of an hour.
"""

import argparse
import csv
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from string import ascii_lowercase

import numpy as np
import torch
from deberta_onnx import deberta
from processes import tree
from served import ours, running
from targets import bar, finish
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

GIB = 2**30
MOST_MEMORY_GIB = 16
MOST_MINUTES = 60
BATCH, TOKENS = 16, 128
PIECES = 128_000
LABELS = ("even", "odd", "round")
SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]")
STAGE_LINE = re.compile(r"^  (\w+) +([\d.]+) s  ")
SAMPLE_S = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=("base", "large"), default="base")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--layers", type=int, help="fewer than the size has, to try the benchmark itself")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_model(folder / "model", options.size, options.layers)
        if options.size == "large":
            export_alone(folder)
        else:
            whole_recipe(folder, options.steps)
    finish()


def write_model(folder: Path, size: str, layers: int | None) -> None:
    """Write a DebertaV2 with random weights and its tokenizer, as a hub model's folder has them."""
    tokenizer = Tokenizer(models.WordLevel({piece: i for i, piece in enumerate(pieces())}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    ends = [(name, SPECIAL.index(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    names = {f"{name.strip('[]').lower()}_token": name for name in SPECIAL}
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **names)
    deberta(size, vocabulary=PIECES, layers=layers).deberta.save_pretrained(folder)
    wrapped.save_pretrained(folder)


def pieces() -> Iterator[str]:
    """The vocabulary: special tokens, then words that stand for nothing."""
    yield from SPECIAL
    yield from itertools.islice(map("".join, itertools.product(ascii_lowercase, repeat=4)), PIECES - len(SPECIAL))


def whole_recipe(folder: Path, steps: int) -> None:
    """Run the recipe with the model, watching memory, and ask its bundle in the service."""
    n_train = int(steps * BATCH / 0.9)
    write_rows(folder / "rows.csv", n_train + 400)
    settings = {
        "encoder.model": str(folder / "model"),
        "encoder.max_length": TOKENS,
        "train.epochs": 1,
        "train.batch_size": BATCH,
        "train.learning_rate": 2e-5,
        "split.train": n_train,
        "split.calibration": 200,
        "split.test": 200,
    }
    words = ["--data", "rows.csv", "--text", "text", "--label", "label", "--gold", "gold", "--teacher", "none"]
    run([sys.executable, "-m", "hybrid.recipe", "new", "base", *words, "--write-only"], folder)
    overrides = [word for name, value in settings.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    started = time.perf_counter()
    peaks = watched([sys.executable, "-m", "hybrid.recipe", "recipes/base", *overrides], folder)
    minutes = (time.perf_counter() - started) / 60
    print(f"\n{'stage':<12} {'seconds':>8} {'peak GiB':>9}")
    for stage, (seconds, peak) in peaks.items():
        print(f"{stage:<12} {seconds:8.0f} {peak / GIB:9.1f}")
    bundle = next((folder / "runs").glob("base/*/bundle"))
    served(bundle)
    highest = max(peak for _, peak in peaks.values()) / GIB
    bar("base_size_peak_gib", round(highest, 1), f"<= {MOST_MEMORY_GIB}", highest <= MOST_MEMORY_GIB)
    bar("base_size_minutes", round(minutes, 1), f"<= {MOST_MINUTES}", minutes <= MOST_MINUTES)


def write_rows(path: Path, n_rows: int) -> None:
    """Write texts of more words than the encoder reads, whose label the first word tells."""
    draw, words = np.random.default_rng(0), list(pieces())[len(SPECIAL) :]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label", "gold"])
        for _ in range(n_rows):
            numbers = draw.integers(0, len(words), TOKENS)
            label = LABELS[numbers[0] % len(LABELS)]
            writer.writerow([" ".join(words[number] for number in numbers), label, label])


def watched(command: list[str], folder: Path) -> dict[str, tuple[float, int]]:
    """Run the command and return the seconds and the peak of resident bytes of each stage that it names."""
    peak = [0]
    stages: dict[str, tuple[float, int]] = {}
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        done = threading.Event()

        def sample() -> None:
            while not done.wait(SAMPLE_S):
                peak[0] = max(peak[0], sum(map(resident, tree(process.pid))))

        sampler = threading.Thread(target=sample)
        sampler.start()
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            if match := STAGE_LINE.match(line):
                stages[match[1]] = (float(match[2]), peak[0])
                peak[0] = 0
        done.set()
        sampler.join()
    if process.returncode:
        sys.exit(process.returncode)
    return stages


def resident(pid: int) -> int:
    """Bytes of a process that are in memory; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def served(bundle: Path) -> None:
    """Ask the bundle in the service for one answer."""
    import httpx

    text = " ".join(itertools.islice(pieces(), len(SPECIAL), len(SPECIAL) + 3))
    with running(ours(bundle), [text]) as service:
        url = f"http://127.0.0.1:{service.port}/v1/classify"
        reply = httpx.post(url, json={"inputs": text}, timeout=60).raise_for_status().json()
    print(f"\nthe service was ready in {service.ready_s:.1f} s and answers {json.dumps(reply)[:200]}")


def export_alone(folder: Path) -> None:
    """Export the large model and load the graph, watching memory."""
    code = (
        "import time, torch\n"
        "from pathlib import Path\n"
        "from hybrid.encoders.checkpoint import load_classifier\n"
        "from hybrid.encoders.deberta_onnx import export_deberta\n"
        "from hybrid.runtime.session import Session\n"
        "start = time.perf_counter()\n"
        f"model = load_classifier(Path('model'), {list(LABELS)!r})\n"
        "print(f'  load         {time.perf_counter() - start:.1f} s  checkpoint', flush=True); start = time.perf_counter()\n"
        "export_deberta(model, ('input_ids', 'attention_mask'), Path('model.onnx'), opset=20)\n"
        "print(f'  export       {time.perf_counter() - start:.1f} s  graph', flush=True); start = time.perf_counter()\n"
        "Session(Path('model.onnx'))\n"
        "print(f'  session      {time.perf_counter() - start:.1f} s  loaded', flush=True)\n"
    )
    peaks = watched([sys.executable, "-c", code], folder)
    print(f"\n{'step':<12} {'seconds':>8} {'peak GiB':>9}")
    for step, (seconds, peak) in peaks.items():
        print(f"{step:<12} {seconds:8.0f} {peak / GIB:9.1f}")
    highest = max(peak for _, peak in peaks.values()) / GIB
    bar("large_size_peak_gib", round(highest, 1), f"<= {MOST_MEMORY_GIB}", highest <= MOST_MEMORY_GIB)


def run(command: list[str], folder: Path) -> None:
    """Run a command that prints nothing worth showing; its failure ends the benchmark."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
