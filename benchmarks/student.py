"""The decoder student: what it scores, how its file compares with torch, what rejection is worth, what an answer costs.

Trains students of a recipe in `runs/` (what is finished there is not done again) and prints a bar for each figure. The sentiment
recipe with the packaged SmolLM2 takes an hour and more on two cores, most of it training.

    python benchmarks/student.py                 # three splits with a training seed each, the file, the time of an answer
    python benchmarks/student.py layouts         # post, direct and pre, three trainings each on one split
    python benchmarks/student.py rejection       # a teacher made wrong on a fifth of the rows, with and without rejection

A second word names a recipe other than sentiment; the bars are those of sentiment.
"""

import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
from targets import bar, finish

from hybrid.evaluation.intervals import mean_difference
from hybrid.files.table import read_rows, write_rows
from hybrid.llm.student.decoder import Student
from hybrid.llm.traces.recorded import Trace
from hybrid.recipe_files.find import find_recipe
from hybrid.student.judging import JudgedRow
from hybrid.types import Example

SEEDS = 3
RUNS = Path("runs")
TIMED = 100
WRONG_SHARE = 0.2


def main() -> None:
    part, recipe, *_ = (*sys.argv[1:], *("splits", "sentiment")[len(sys.argv) - 1 :])
    parts = {"splits": splits, "layouts": layouts, "rejection": rejection}
    if part not in parts:
        sys.exit(f"{part}: expected one of {', '.join(parts)}")
    parts[part](recipe)
    finish()


def splits(recipe: str) -> None:
    """Three splits with a training seed each, judged on the file that is served."""
    folders = [train(recipe, f"student-{seed}", f"seed={seed}") for seed in range(SEEDS)]
    reports = [read_report(folder) for folder in folders]
    for seed, report in enumerate(reports):
        test, parity = report["test"], report["parity"]
        print(
            f"seed {seed}: {report['data']['rows']}, accuracy {test['accuracy']:.4f}, macro-F1 {test['macro_f1']:.4f}, ECE "
            f"{test['ece']:.4f}, {report['steps']} steps, {report['tokens']} tokens, {report['precision']}, stage "
            f"{report['seconds'] / 60:.1f} min, F16 within {parity['max_log_prob_difference']:.4f}, "
            f"{parity['agreement']:.1%} of {parity['served_rows']} decisions the same"
        )
    accuracy, f1 = (float(np.mean([report["test"][name] for report in reports])) for name in ("accuracy", "macro_f1"))
    bar("student_accuracy", round(accuracy, 4), ">= 0.81", accuracy >= 0.81)
    bar("student_macro_f1", round(f1, 4), ">= 0.755", f1 >= 0.755)
    memory = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1e6
    bar("peak_memory_gb", round(memory, 2), "< 8", memory < 8)
    furthest = max(report["parity"]["max_log_prob_difference"] for report in reports)
    bar("f16_label_log_probability_difference", round(furthest, 4), "<= 0.05", furthest <= 0.05)
    agreement = min(report["parity"]["agreement"] for report in reports)
    bar("served_decisions_as_torch", round(agreement, 4), ">= 0.98", agreement >= 0.98)
    time_answers(folders[0])


def time_answers(folder: Path) -> None:
    """The processor time of one text by label scoring, cached and not, and with its reason; and texts a second in batches."""
    student = Student(folder / "student" / "student.gguf")
    texts = [row.text for row in read_rows(folder / "split" / "rows.jsonl", Example) if row.part == "calibration"][
        :TIMED
    ]
    scored = processor_ms(texts, student.answer)
    again = processor_ms(texts, lambda text: [student.answer(text) for _ in range(2)]) - scored
    reasoned = processor_ms(texts, lambda text: student.answer(text, reason=True))
    print(f"processor ms a text: {scored:.0f} scored, {again:.0f} the same text again, {reasoned:.0f} with its reason")
    bar("processor_ms_a_text", round(scored, 1), "<= 120", scored <= 120)
    rate = read_report(folder)["test"]
    bar("texts_a_second", round(1000 / rate["ms_a_text"], 1), ">= 15", 1000 / rate["ms_a_text"] >= 15)


def layouts(recipe: str) -> None:
    """The layouts at equal passes on one split; each difference with its interval over the test rows."""
    run(recipe, "student-0", "seed=0", words=("--compare", "direct,post,pre", "--seeds", str(SEEDS)))
    report = msgspec.json.decode((run_folder(recipe, "student-0") / "student-layouts" / "report.json").read_bytes())
    gains = {row["name"]: row["gain"] for row in report["students"]}
    bar("post_over_direct_in_points", interval_of(gains["post"]), "low > 0", gains["post"]["low"] > 0)
    bar("pre_over_direct_in_points", interval_of(gains["pre"]), "high < 0", gains["pre"]["high"] < 0)


def rejection(recipe: str) -> None:
    """A recorded teacher made wrong on a fifth of its answers: the student of the reasons that cleaning's labels leave, and of all."""
    wrong = wrong_teacher(recipe)
    names = {"true": "rejected", "false": "all"}
    folders = [train(str(wrong), name, "seed=0", f"student.rejection={value}") for value, name in names.items()]
    right = [
        np.array([[row.label == row.gold for row in read_rows(folder / "student" / "judged.jsonl", JudgedRow)]])
        for folder in folders
    ]
    for name, folder, rows in zip(names.values(), folders, right, strict=True):
        print(f"{name}: accuracy {rows.mean():.4f}, {read_report(folder)['data']['traces']}")
    gain = msgspec.to_builtins(mean_difference(right[0], right[1]))
    bar("rejection_gain_in_points", interval_of(gain), "value >= 0", gain["value"] >= 0)


def wrong_teacher(recipe: str) -> Path:
    """Copy the recipe, and give a fifth of its recorded answers label and reason of another text with another label."""
    path = find_recipe(recipe)
    folder = RUNS / f"{path.parent.name}-wrong-teacher"
    shutil.copytree(path.parent, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("runs"))
    traces, rng = read_rows(path.parent / "traces.jsonl", Trace), np.random.default_rng(0)
    changed = list(traces)
    for i in rng.choice(len(traces), round(WRONG_SHARE * len(traces)), replace=False):
        others = [trace for trace in traces if trace.label != traces[i].label]
        other = others[int(rng.integers(len(others)))]
        changed[i] = msgspec.structs.replace(traces[i], label=other.label, rationale=other.rationale)
    write_rows(folder / "traces.jsonl", changed)
    text = (folder / "recipe.toml").read_text(encoding="utf-8")
    name = next(line for line in text.splitlines() if line.startswith("name = "))
    text = text.replace(name, f'{name[:-1]}-wrong-teacher"', 1)
    (folder / "recipe.toml").write_text(text, encoding="utf-8")
    return folder / "recipe.toml"


def processor_ms(texts: list[str], act: Callable[[str], object]) -> float:
    """The mean processor time of `act` on each text."""
    start = time.process_time()
    for text in texts:
        act(text)
    return 1000 * (time.process_time() - start) / len(texts)


def interval_of(gain: dict) -> str:
    """A difference of shares in points, with its interval."""
    return f"{100 * gain['value']:+.2f} [{100 * gain['low']:+.2f}, {100 * gain['high']:+.2f}]"


def train(recipe: str, name: str, *settings: str) -> Path:
    """Train the student of a recipe in a run of that name; return the run's folder."""
    run(recipe, name, *settings)
    return run_folder(recipe, name)


def run(recipe: str, name: str, *settings: str, words: tuple[str, ...] = ()) -> None:
    """Run `hybrid student`, and end where it fails."""
    from hybrid.__main__ import main as hybrid

    options = [word for setting in settings for word in ("--set", setting)]
    if status := hybrid(["student", recipe, "--runs", str(RUNS), "--name", name, *options, *words]):
        sys.exit(status)


def run_folder(recipe: str, name: str) -> Path:
    """The folder of a run."""
    from hybrid.recipe_files.read import read_recipe

    return RUNS / read_recipe(find_recipe(recipe)).name / name


def read_report(folder: Path) -> dict:
    """What the stage reported."""
    return msgspec.json.decode((folder / "student" / "report.json").read_bytes())


if __name__ == "__main__":
    main()
