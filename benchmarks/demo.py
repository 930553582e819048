"""The bundle that ships as `demo`: made again byte for byte, its accuracy beside the sentiment recipe's, its first answer.

Runs `hybrid run demo` in an empty folder, with one thread as the bundle that ships was made, and compares the files. With
the folder of a finished run of the sentiment recipe (`python benchmarks/demo.py runs/sentiment/embedded`) its bundle is
judged on the same test rows. Builds the wheel and installs its runtime into an empty environment, and times
`hybrid predict demo` there, from the end of the installation on.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np
from targets import bar, finish

import hybrid
from hybrid.files.hashing import sha256_of_file
from hybrid.files.table import read_rows
from hybrid.runtime.bundle import DEMO_BUNDLE, MODEL, TOKENIZER, read_bundle
from hybrid.stages.stage import JUDGED
from hybrid.types import Judged

CHECKOUT = Path(__file__).resolve().parent.parent
MOST_BYTES = 3_000_000
MOST_SECONDS = 3.0
TRIES = 5


def main() -> None:
    n_bytes = sum(path.stat().st_size for path in DEMO_BUNDLE.iterdir())
    print(f"{DEMO_BUNDLE.name}: {n_bytes:,} bytes in {len(list(DEMO_BUNDLE.iterdir()))} files")
    bar("demo_bytes", n_bytes, f"<= {MOST_BYTES}", n_bytes <= MOST_BYTES)
    with tempfile.TemporaryDirectory() as scratch:
        run = made_again(Path(scratch))
        rows = read_rows(run / JUDGED.path, JUDGED.row_type)
        print(f"on {len(rows)} test rows (gold): demo {accuracy('demo', rows):.4f}", end="")
        print(f", {sys.argv[1]} {accuracy(sys.argv[1] + '/bundle', rows):.4f}" if len(sys.argv) > 1 else "")
        (Path(scratch) / "elsewhere").mkdir()  # not beside the run, whose folder is called demo
        first, later = first_answer(Path(scratch) / "elsewhere")
    print(f"from the end of the installation to the answer: {first:.2f} s; then {later:.2f} s (median of {TRIES})")
    bar("demo_first_answer_seconds", round(first, 2), f"<= {MOST_SECONDS:g}", first <= MOST_SECONDS)
    finish()


def made_again(folder: Path) -> Path:
    """Run the recipe, compare its bundle with the one that ships, and return the folder of the run."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-m", "hybrid.recipe", "demo", "--runs", str(folder)]
    subprocess.run(command, env=environment, check=True)
    run = folder / "demo" / "default"
    for name in (MODEL, TOKENIZER):
        same = sha256_of_file(run / "bundle" / name) == sha256_of_file(DEMO_BUNDLE / name)
        bar(f"demo_same_bytes_{name.partition('.')[0]}", same, "True", same)
    ours, again = (msgspec.to_builtins(read_bundle(place)) for place in (DEMO_BUNDLE, run / "bundle"))
    differs = [name for name in ours if ours[name] != again[name]]
    print(f"fields of the manifest that differ: {', '.join(differs) or 'none'}")
    return run


def accuracy(bundle: str, rows: list[Judged]) -> float:
    answers = hybrid.load(bundle).classify([row.text for row in rows])
    return float(np.mean([answer.label == row.gold for answer, row in zip(answers, rows, strict=True)]))


def first_answer(folder: Path) -> tuple[float, float]:
    """Return the seconds that the first `hybrid predict demo` takes after the installation, and the median of the next."""
    python = folder / "venv/bin/python"
    for command in (
        [sys.executable, "-m", "build", "--wheel", "--outdir", folder, CHECKOUT],
        [sys.executable, "-m", "venv", folder / "venv"],
    ):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wheel = next(folder.glob("*.whl"))
    install = [python, "-m", "pip", "install", "--quiet", "--constraint", CHECKOUT / "constraints.txt", wheel]
    subprocess.run(install, check=True, stderr=subprocess.DEVNULL)
    seconds = []
    for _ in range(1 + TRIES):
        start = time.perf_counter()
        command = [folder / "venv/bin/hybrid", "predict", "demo", "I love it!"]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
        seconds.append(time.perf_counter() - start)
        assert '"label":"positive"' in done.stdout, done.stdout
    return seconds[0], float(np.median(seconds[1:]))


if __name__ == "__main__":
    main()
