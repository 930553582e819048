"""What a human look finds: the review queue against random order and plain uncertainty, over five seeds.

Cleans the sentiment data with its recorded teacher (no encoder is trained; about two minutes on two cores), orders the
training rows in several ways, and counts by gold how many wrong decided labels the first looks find. Gold judges
the orders here and makes none of them.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from targets import bar, finish

from hybrid.pipeline.context import RunContext
from hybrid.pipeline.run import Run
from hybrid.pipeline.stages import run_stage
from hybrid.progress import Screen
from hybrid.recipe_files.find import find_recipe
from hybrid.recipe_files.read import read_recipe
from hybrid.review.export import queue_of
from hybrid.stages.clean import CLEAN
from hybrid.stages.split import SPLIT
from hybrid.stages.verify import VERIFY

SEEDS = 5
LOOKS = (50, 100, 200, 400)
JUDGED_AT = 200


def main() -> None:
    precision: dict[str, list[list[float]]] = {}
    balanced: dict[str, list[list[float]]] = {}
    wrong_shares = []
    for context in cleaned_stories():
        ids = [decision.id for decision in context.decisions()]
        gold = {row.id: row.label for row in context.gold()}
        truth = np.array([gold[row_id] for row_id in ids])
        wrong = np.array([decision.label for decision in context.decisions()]) != truth
        wrong_shares.append(float(wrong.mean()))
        for name, order in orders(context, ids).items():
            precision.setdefault(name, []).append([float(wrong[order[:n]].mean()) for n in LOOKS])
            balanced.setdefault(name, []).append([found_by_class(wrong, truth, order[:n]) for n in LOOKS])
    print(f"\nsentiment, seeds 0 to {SEEDS - 1}, wrong decided labels {np.mean(wrong_shares):.4f} of 2,400 rows\n")
    table("wrong labels found a look", precision)
    table("share of each class's wrong labels found, mean over the classes", balanced)
    at = LOOKS.index(JUDGED_AT)
    mean = {name: float(np.mean([seed[at] for seed in seeds])) for name, seeds in precision.items()}
    gain, plain = mean["expected gain"], max(mean["entropy"], mean["least sure"], mean["margin"])
    bar(f"found_a_look_{JUDGED_AT}_over_random", round(gain / mean["random"], 2), ">= 3", gain >= 3 * mean["random"])
    bar(f"found_a_look_{JUDGED_AT}_over_uncertainty", round(gain - plain, 4), "> 0", gain > plain)
    finish()


def cleaned_stories() -> Iterator[RunContext]:
    """Yield the sentiment recipe with labels cleaned, once a seed."""
    path = find_recipe("sentiment")
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(SEEDS):
            recipe = read_recipe(path, overrides={"seed": seed})
            run = Run(Path(scratch) / str(seed), Screen())
            context = RunContext(recipe, path.parent, run, Path(scratch) / "traces.sqlite")
            for stage in (SPLIT, VERIFY, CLEAN):
                run_stage(stage, context)
            yield context


def orders(context: RunContext, ids: list[str]) -> dict[str, np.ndarray]:
    """Return the rows in the order of each way to choose, by its name."""
    probs = np.array([decision.probs for decision in context.decisions()])
    ranked = np.sort(probs, axis=1)
    queue = queue_of(context)
    place = {row_id: i for i, row_id in enumerate(ids)}
    beliefs = {look.id: look.belief for look in queue}
    scores = {
        "entropy": -(probs * np.log(np.maximum(probs, 1e-12))).sum(axis=1),
        "least sure": 1 - ranked[:, -1],
        "margin": ranked[:, -2] - ranked[:, -1],
        "decided is wrong": 1 - np.array([beliefs[row_id] for row_id in ids]),
    }
    return {
        "random": np.random.default_rng(context.recipe.seed).permutation(len(ids)),
        **{name: np.argsort(-score, kind="stable") for name, score in scores.items()},
        "expected gain": np.array([place[look.id] for look in queue]),
    }


def found_by_class(wrong: np.ndarray, truth: np.ndarray, looked: np.ndarray) -> float:
    """Return the share of each class's wrong labels that the looks find, in the mean over the classes."""
    classes = np.unique(truth)
    return float(np.mean([wrong[looked][truth[looked] == c].sum() / wrong[truth == c].sum() for c in classes]))


def table(title: str, curves: dict[str, list[list[float]]]) -> None:
    """Print means and standard deviations over the seeds."""
    print(f"{title:<66}" + "".join(f"{n:>16} looks" for n in LOOKS))
    for name, seeds in curves.items():
        mean, spread = np.mean(seeds, axis=0), np.std(seeds, axis=0, ddof=1)
        print(f"  {name:<64}" + "".join(f"{m:>15.3f} ({s:.3f})" for m, s in zip(mean, spread, strict=True)))
    print()


if __name__ == "__main__":
    main()
