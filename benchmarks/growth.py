"""How seconds and memory of the data stages grow with the rows: 10 thousand, 100 thousand and a million.

`python benchmarks/growth.py [FILE] [--rows 10000 100000 1000000] [--keep DIR]`. The texts vary those of FILE (csv, jsonl or
parquet with the columns `text` and `label`), by default the tweets of the sentiment recipe: the head of one text and the tail
of another, some words exchanged; 5 in 100 rows are near-copies of another row and 2 in 100 copies. Every row has an imported
vote, and 200 rows are trusted. Each size goes through the stages of a run in a process of its own: split, verify, clean and synthesize as they are, and
of train what comes before its first step: rows, targets and token ids. The frozen embeddings come from a fixed table of
vectors by word, 384 numbers a text as MiniLM's, so that the figures are those of everything else.

The peak is that of the whole process while the stage works, libraries included. Linux tells it for each stage; elsewhere it
is the largest so far. An exponent of 1 between two sizes is time that grows as the rows do, 1.15 is n log n here. Of the time it is
that of the processor, because others may use the machine. Of the memory, what the process takes before the first stage is left
out.
"""

import argparse
import csv
import importlib
import itertools
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from targets import bar, finish

SIZES = (10_000, 100_000, 1_000_000)
MOST_GIB = 8.0
MOST_EXPONENT = 1.15
LEAST_SECONDS = 0.2
"""A stage that takes less at the smaller of two sizes has no exponent that means anything."""
LEAST_MIB = 16.0
COPIES, NEAR_COPIES, OTHER_WORDS, WRONG = 0.02, 0.05, 0.1, 0.15
"""The shares of rows that are copies or near-copies, of words exchanged, and of given labels and votes that are wrong."""
DIMENSIONS, TABLE = 384, 1 << 16
"""Of the embeddings, and the vectors in their table."""
EMBEDDED_TOGETHER = 10_000
RECIPE = """name = "growth"
[data]
trusted = 200
train = "rows.csv"
id = "id"
text = "text"
label = "label"
gold = "gold"
[verify]
imports = ["votes.csv"]
[encoder]
model = "encoder"
"""


class Cost(NamedTuple):
    """What a stage took."""

    stage: str
    wall_s: float
    processor_s: float
    peak_mib: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--rows", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave rows and runs in this folder")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)  # what the process of one size is told
    options = parser.parse_args()
    if options.run:
        print(json.dumps(run_stages_in(options.run)))
        return
    texts, labels = source_rows(options.file)
    print(f"{len(texts)} texts varied, {sum(map(len, texts)) / len(texts):.0f} characters each in the mean", flush=True)
    costs: dict[int, list[Cost]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for n_rows in sorted(options.rows):
            folder = (options.keep or Path(scratch)) / str(n_rows)
            write_inputs(folder, texts, labels, n_rows)
            costs[n_rows] = costs_of(folder)
            print_costs(n_rows, costs[n_rows])
    worst = print_exponents(costs)
    largest = max(costs)
    peak = max(cost.peak_mib for cost in costs[largest]) / 1024
    bar("growth_peak_gib", f"{peak:.2f} at {largest} rows", f"<= {MOST_GIB:g}", peak <= MOST_GIB)
    if worst:
        exponent, what = max(worst)
        bar("growth_exponent", f"{exponent:.2f}, {what}", f"<= {MOST_EXPONENT}", exponent <= MOST_EXPONENT)
    finish()


def source_rows(file: Path | None) -> tuple[list[str], list[str]]:
    """Return the texts to vary and their labels."""
    if file is not None:
        from hybrid.files.sheet import read_sheet

        records = [cells for _, cells in read_sheet(file, ("text", "label")).records]
        return [str(cells["text"]) for cells in records], [str(cells["label"]) for cells in records]
    from hybrid.artifacts import fetch
    from hybrid.files.python_file import function_in
    from hybrid.recipe_files.find import find_recipe

    prepare = function_in(find_recipe("sentiment").with_name("prepare.py"), "prepare", "(fetch, seed)", setting="")
    rows = prepare(fetch, 0)
    return [row["text"] for row in rows], [row["gold"] for row in rows]


def write_inputs(folder: Path, texts: Sequence[str], labels: Sequence[str], n_rows: int) -> None:
    """Write recipe, rows, votes and a tiny encoder with the tokenizer of the demo bundle into `folder`."""
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    names = sorted(set(labels))
    rng = np.random.default_rng(0)
    with (
        (folder / "rows.csv").open("w", encoding="utf-8", newline="") as rows_file,
        (folder / "votes.csv").open("w", encoding="utf-8", newline="") as votes_file,
    ):
        rows, votes = csv.writer(rows_file), csv.writer(votes_file)
        rows.writerow(("id", "text", "label", "gold"))
        votes.writerow(("id", "label", "confidence"))
        for number, (text, gold) in enumerate(itertools.islice(varied(texts, labels, rng), n_rows)):
            wrong = [names[rng.integers(len(names))] if rng.random() < WRONG else gold for _ in range(2)]
            rows.writerow((f"r{number}", text, wrong[0], gold))
            votes.writerow((f"r{number}", wrong[1], f"{rng.uniform(0.5, 1):.3f}"))
    write_encoder(folder / "encoder")


def varied(texts: Sequence[str], labels: Sequence[str], rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """Yield texts made of two real ones, and the label of the longer part, without end."""
    words_of = [text.split() for text in texts]
    vocabulary = sorted({word for words in words_of for word in words})
    earlier: list[tuple[str, str]] = []
    while True:
        if earlier and rng.random() < COPIES + NEAR_COPIES:
            text, label = earlier[rng.integers(len(earlier))]
            yield (text if rng.random() < COPIES / (COPIES + NEAR_COPIES) else f"{text} {rng.integers(100)}!", label)
            continue
        first, second = (int(i) for i in rng.integers(len(texts), size=2))
        cut = rng.uniform(0.2, 0.8)
        head, tail = words_of[first], words_of[second]
        words = [*head[: math.ceil(cut * len(head))], *tail[math.floor(cut * len(tail)) :]]
        words = [vocabulary[rng.integers(len(vocabulary))] if rng.random() < OTHER_WORDS else word for word in words]
        row = " ".join(words), labels[first if cut >= 0.5 else second]
        if len(earlier) < 100_000:
            earlier.append(row)
        yield row


def write_encoder(folder: Path) -> None:
    """Write a BERT of one narrow layer with random weights."""
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    import hybrid

    tokenizer = Tokenizer.from_file(str(Path(hybrid.__file__).with_name("demo_bundle") / "tokenizer.json"))
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_input_names=["input_ids", "attention_mask", "token_type_ids"], **special
    )
    fast.save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(fast), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(folder)


def costs_of(folder: Path) -> list[Cost]:
    """Take one size through the stages in a process of its own."""
    command = [sys.executable, __file__, "--run", str(folder)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=one_thread()).stdout
    return [Cost(*cost) for cost in json.loads(output.splitlines()[-1])]


def one_thread() -> dict[str, str]:
    """Return the environment with one thread for arithmetic: one that waits for another takes the processor's time too."""
    return os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def run_stages_in(folder: Path) -> list[Cost]:
    """Run the stages on the inputs in `folder`; return what each took, first of all the start of the process."""
    from hybrid.pipeline.context import RunContext
    from hybrid.pipeline.run import Run
    from hybrid.pipeline.stages import run_stage
    from hybrid.progress import Screen
    from hybrid.recipe_files.read import read_recipe
    from hybrid.stages.clean import CLEAN
    from hybrid.stages.split import SPLIT
    from hybrid.stages.synthesize import SYNTHESIZE
    from hybrid.stages.verify import VERIFY

    class StaticEmbeddings(RunContext):
        """A run whose frozen embeddings are looked up."""

        def embed(self, texts: Sequence[str]) -> np.ndarray:
            return static_embeddings(texts)

    recipe = read_recipe(folder / "recipe.toml")
    run = Run(folder / "run", Screen(sys.stderr))
    context = StaticEmbeddings(recipe, folder, run, folder / "traces.sqlite")
    import_libraries()
    costs = [measured("start", lambda: None)]
    for stage in (SPLIT, VERIFY, CLEAN, SYNTHESIZE):
        costs.append(measured(stage.name, lambda stage=stage: run_stage(stage, context)))
    costs.append(measured("train", lambda: prepare_training(context)))
    return costs


def import_libraries() -> None:
    """Load what the stages load, so that the first one does not count for it."""
    for name in (
        "cleanlab.multiannotator",
        "hybrid.encoders.training",
        "hybrid.labels.cleaning",
        "hybrid.labels.consensus",
    ):
        importlib.import_module(name)


def prepare_training(context: object) -> None:
    """Do what the stage train does before its first step: rows, targets, validation rows, token ids."""
    from hybrid.data.training_rows import hold_out, training_rows
    from hybrid.encoders.training import training_setup
    from hybrid.pipeline.context import RunContext
    from hybrid.stages.stage import DECISIONS, TRAINING_DRAFTS
    from hybrid.stages.train import TRAIN

    assert isinstance(context, RunContext)
    io = context.io(TRAIN)
    config, seed = io.recipe.train, io.recipe.seed
    rows = training_rows(io.rows("train"), io.read(DECISIONS), io.read(TRAINING_DRAFTS), io.labels, config)
    fitting, validation = hold_out(rows, config, seed)
    encoder = context.recipe_dir / "encoder"
    setup = training_setup(
        fitting, validation, io.labels, config, encoder=encoder, reading=io.limits, seed=seed, task="single_label"
    )
    assert len(setup.fitting) == len(fitting)
    assert len(setup.fitting[0]["input_ids"]) == setup.fitting[0]["length"]


def static_embeddings(texts: Sequence[str]) -> np.ndarray:
    """Return unit vectors [n, d]: the sum of the fixed random vectors of a text's words."""
    from sklearn.feature_extraction.text import HashingVectorizer

    table = np.random.default_rng(1).standard_normal((TABLE, DIMENSIONS), dtype=np.float32)
    words = HashingVectorizer(n_features=TABLE, alternate_sign=False, norm=None, dtype=np.float32)
    vectors = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
    for start in range(0, len(texts), EMBEDDED_TOGETHER):
        sums = words.transform(texts[start : start + EMBEDDED_TOGETHER]) @ table
        vectors[start : start + EMBEDDED_TOGETHER] = sums / np.maximum(
            np.linalg.norm(sums, axis=1, keepdims=True), 1e-6
        )
    return vectors


def measured(name: str, work: Callable[[], object]) -> Cost:
    """Do `work` and return what it took."""
    forget_peak()
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return Cost(name, time.perf_counter() - wall, time.process_time() - processor, peak_mib())


def forget_peak() -> None:
    """Have Linux count the process's peak of memory from here."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")


def peak_mib() -> float:
    """Return the largest memory of the process since `forget_peak`, or where that cannot be told, since its start."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    unit = 1024 * 1024 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def print_costs(n_rows: int, costs: Sequence[Cost]) -> None:
    print(f"\n{n_rows} rows     wall s  processor s   peak MiB")
    for cost in costs:
        print(f"{cost.stage:<12} {cost.wall_s:9.1f} {cost.processor_s:12.1f} {cost.peak_mib:10.0f}", flush=True)


def print_exponents(costs: dict[int, list[Cost]]) -> list[tuple[float, str]]:
    """Print how seconds and memory grow from each size to the next; return the exponents with what they are of."""
    exponents: list[tuple[float, str]] = []
    for small, large in itertools.pairwise(sorted(costs)):
        print(f"\nexponents from {small} to {large} rows")
        start = [costs[n][0].peak_mib for n in (small, large)]
        for before, after in zip(costs[small][1:], costs[large][1:], strict=True):
            pairs = {
                "processor": (before.processor_s, after.processor_s, LEAST_SECONDS),
                "memory": (before.peak_mib - start[0], after.peak_mib - start[1], LEAST_MIB),
            }
            for kind, (low, high, least) in pairs.items():
                if low < least or high <= 0:
                    print(f"{before.stage:<12} {kind:<10} too small to tell")
                    continue
                exponent = math.log(high / low) / math.log(large / small)
                exponents.append((exponent, f"{kind} of {before.stage} from {small} to {large} rows"))
                print(f"{before.stage:<12} {kind:<10} {exponent:.2f}")
    return exponents


if __name__ == "__main__":
    main()
