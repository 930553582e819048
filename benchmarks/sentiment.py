"""What the sentiment recipe promises, over three seeds: cleaner labels, a better encoder, honest probabilities.

Runs the recipe with `--ablate --seeds 3` in `runs/` (what is finished there is not done again; from
nothing it takes about an hour on two cores), then prints the table and the bars from its summary.
"""

import sys
from pathlib import Path

import msgspec
from targets import bar, finish

SEEDS = 3
RUNS = Path("runs")


def main() -> None:
    from hybrid.recipe import main as recipe

    status = recipe(["sentiment", "--ablate", "--seeds", str(SEEDS), "--runs", str(RUNS)])
    if status:
        sys.exit(status)
    summary = msgspec.json.decode((RUNS / "sentiment" / "embedded" / "summary.json").read_bytes())
    table(summary)
    seeds = summary["seeds"]
    gain = mean([seed["test"]["cleaned"]["macro_f1"] - seed["test"]["given"]["macro_f1"] for seed in seeds])
    calibrations = [seed["calibration"] for seed in seeds]
    labels = summary["labels"]
    bar("wrong_labels_cleaned", labels["wrong_cleaned"], "<= 0.13", labels["wrong_cleaned"] <= 0.13)
    bar("macro_f1_gain_over_given", round(gain, 4), ">= 0.01", gain >= 0.01)
    honest = sum(c["ece_after"] <= c["ece_refit95"] for c in calibrations)
    bar("seeds_with_ece_under_the_refitted_limit", honest, f">= {SEEDS}", honest >= SEEDS)
    better = sum(c["nll_after"] < c["nll_before"] for c in calibrations)
    bar("seeds_with_better_nll", better, f">= {SEEDS}", better >= SEEDS)
    finish()


def table(summary: dict) -> None:
    """Print what each seed and their mean gave."""
    seeds = summary["seeds"]
    print(f"\n{summary['rows']} rows, seeds {[seed['seed'] for seed in seeds]}, teacher {summary['llm']['teacher']}")
    for name in ("wrong_given", "wrong_cleaned"):
        print(f"{name:<22} mean {summary['labels'][name]:.4f}  {[round(s['labels'][name], 4) for s in seeds]}")
    print(f"{'test':<22} {'accuracy':>8} {'macro-F1':>8}  accuracy by seed, macro-F1 by seed")
    for variant in seeds[0]["test"]:
        of_seeds = [seed["test"][variant] for seed in seeds]
        accuracy, f1 = ([round(of_seed[name], 4) for of_seed in of_seeds] for name in ("accuracy", "macro_f1"))
        print(f"{variant:<22} {mean(accuracy):8.4f} {mean(f1):8.4f}  {accuracy}, {f1}")
    for name, way in summary["way_to_ceiling"].items():
        print(f"way to the ceiling, {name}: {'unknown' if way is None else f'{way:.0%}'}")
    for seed in seeds:
        c = seed["calibration"]
        print(
            f"seed {seed['seed']}: ECE {c['ece_before']:.4f} -> {c['ece_after']:.4f} "
            f"(limit {c['ece_refit95']:.4f} refitted, {c['ece_null95']:.4f} perfect), "
            f"NLL {c['nll_before']:.4f} -> {c['nll_after']:.4f}"
        )


def mean(values: list[float]) -> float:
    """Return the arithmetic mean."""
    return sum(values) / len(values)


if __name__ == "__main__":
    main()
