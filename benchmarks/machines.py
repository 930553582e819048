"""One bundle on other processors: what of its decisions stays, in emulation of AVX2 without VNNI, and of Arm.

`python benchmarks/machines.py [RUN]`, or `make machines`: RUN is a finished run of the sentiment recipe, such as
runs/sentiment/embedded; without it the recipe runs first. Every precision answers 200 test texts on each processor that
can be emulated here, and so does a portable bundle. Emulation is slow and exact: nothing is timed. The lines of `here` are
of this machine's own processor: what int8 itself changes, with no other processor in play.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
from emulation import Emulated, emulated_machines
from served_bundles import sentiment_run
from targets import bar, finish

import hybrid
from hybrid.precisions import PRECISIONS

N_TEXTS = 200
LIMIT_S = 1800
LEAST_AGREEMENT = 0.98
PORTABLE = "portable"
HERE = "here"
ANSWERS = Path(__file__).with_name("emulated_answers.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", type=Path)
    options = parser.parse_args()
    machines = emulated_machines()
    if not machines:
        print("skipped: no processor can be emulated here")
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        run = sentiment_run(options.run, folder)
        texts = test_texts(run)
        (folder / "texts.json").write_text(json.dumps(texts))
        bundles = write_bundles(run, folder)
        here = [prediction.label for prediction in hybrid.load(bundles["fp32"]).classify(texts)]
        own = Emulated(name=HERE, python=(sys.executable,))
        answers = {machine.name: ask(machine, bundles, folder / "texts.json") for machine in (own, *machines)}
    report(answers, here)
    finish()


def test_texts(run: Path) -> list[str]:
    """The first test texts of the run."""
    lines = (run / "evaluate/judged.jsonl").read_bytes().splitlines()[:N_TEXTS]
    return [msgspec.json.decode(line)["text"] for line in lines]


def write_bundles(run: Path, folder: Path) -> dict[str, Path]:
    """The run's encoder at every precision, each with its own calibration, and a portable bundle."""
    bundles = {}
    for name in (*PRECISIONS, PORTABLE):
        how = ["--portable"] if name == PORTABLE else ["--precision", name]
        bundles[name] = folder / name
        command = [sys.executable, "-m", "hybrid", "bundle", str(run), str(bundles[name]), *how]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{name}: {done.stderr}")
    return bundles


def ask(machine: Emulated, bundles: dict[str, Path], texts: Path) -> dict[str, dict[str, Any]]:
    """What each bundle answers on a processor."""
    answers = {}
    for name, bundle in bundles.items():
        print(f"{machine.name}: {name} ...", flush=True)
        command = [*machine.python, str(ANSWERS), str(bundle), str(texts)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        except subprocess.TimeoutExpired:
            sys.exit(f"{machine.name}: {name} has not answered within {LIMIT_S} s")
        if done.returncode:
            sys.exit(f"{machine.name}: {name}: {done.stderr[-500:]}")
        answers[name] = json.loads(done.stdout)
    return answers


def report(answers: dict[str, dict[str, dict[str, Any]]], here: list[str]) -> None:
    """Print a line a processor and bundle, then the bars."""
    print(
        f"\n{'processor':<10} {'bundle':<12} {'answers in':<12} {'as fp32 here':>12} {'processor s':>12}  n = {len(here)}"
    )
    for machine, of_bundles in answers.items():
        for name, answer in of_bundles.items():
            shown = "refused" if answer["refusal"] else answer["precision"]
            agreement = "" if answer["refusal"] else f"{agreeing(answer, here):.3f}"
            print(f"{machine:<10} {name:<12} {shown:<12} {agreement:>12} {answer['processor_s']:12.0f}")
    for machine, of_bundles in answers.items():
        if machine == HERE:
            continue
        agreement = agreeing(of_bundles[PORTABLE], here)
        wanted = f">= {LEAST_AGREEMENT}"
        bar(f"portable_agreement_{machine}", round(agreement, 4), wanted, agreement >= LEAST_AGREEMENT)
        refusals = [answer["refusal"] for answer in of_bundles.values() if answer["refusal"]]
        named = all("--portable" in refusal and "\n" not in refusal for refusal in refusals)
        bar(f"refusals_name_the_remedy_{machine}", f"{len(refusals)} refused", "one sentence each", named)


def agreeing(answer: dict[str, Any], here: list[str]) -> float:
    """The share of texts with the label that the fp32 graph gives here; 0 where the bundle was refused."""
    pairs = zip(answer["labels"], here, strict=False)
    return sum(label == expected for label, expected in pairs) / len(here)


if __name__ == "__main__":
    main()
