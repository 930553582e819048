"""What 200 trusted rows are worth on the sentiment data: labels, finding errors, the teacher's budget, the encoder.

`python benchmarks/label_noise.py [--no-encoder] [--only SEED]`. Every figure comes from the stages that
`python -m hybrid.recipe sentiment --set data.trusted=200 --set train.soft_labels=1` runs, on five seeds; a seed draws
split, raters and trusted rows anew. Stages lie in `runs/label_noise/` and are not done again; the fine-tuning of the
encoder, three times a seed, takes an hour and more on two cores. `--only SEED` does the stages of one seed and judges
nothing, so that seeds can be worked at side by side before the whole is run.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from scipy.stats import t as student
from sklearn.metrics import average_precision_score
from targets import bar, finish

from hybrid.config import CleanConfig, Recipe
from hybrid.data.training_rows import TrainingRow, training_rows
from hybrid.evaluation.metrics import accuracy, macro_f1
from hybrid.files.table import read_rows
from hybrid.labels.cleaning import Cleaned, clean
from hybrid.pipeline.context import RunContext
from hybrid.pipeline.run import Run
from hybrid.pipeline.stages import run_stage
from hybrid.progress import Screen
from hybrid.recipe_files.find import find_recipe
from hybrid.recipe_files.read import read_recipe
from hybrid.stages.clean import CLEAN
from hybrid.stages.fitting import fit
from hybrid.stages.split import SPLIT
from hybrid.stages.stage import DECISIONS, LABELS, ROWS, Reads, Stage, StageIO
from hybrid.stages.verify import VERIFY
from hybrid.teacher.row_selection import by_uncertainty, trusted_first
from hybrid.types import Decision, Example, Report, Vote

SEEDS = 5
TRUSTED = 200
RUNS = Path("runs") / "label_noise"
BUDGETS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
VARIANTS = ("given", "repaired", "gold")


class Labelled(msgspec.Struct, frozen=True, kw_only=True):
    """One seed after cleaning: the story, its training rows, their votes and gold, and which rows are trusted."""

    context: RunContext
    rows: list[Example]
    votes: list[Vote]
    gold: dict[str, str]
    trusted: frozenset[str]

    @property
    def seed(self) -> int:
        """The seed of split, raters, trusted rows and training."""
        return self.context.recipe.seed

    def cleaned(self, votes: Sequence[Vote], method: str) -> Cleaned:
        """Return what cleaning by a method makes of the rows with these votes."""
        embeddings = np.load(self.context.run.path("clean", "embeddings.npy"))
        config = CleanConfig(method=method)
        trusted = [] if method == "consensus" else self.context.trusted()
        return clean(
            self.rows, votes, self.context.labels, config, embed=lambda _: embeddings, seed=self.seed, trusted=trusted
        )

    def wrong(self, decisions: Sequence[Decision], *, without_trusted: bool = False) -> float:
        """Return the share of decided labels that are not gold."""
        judged = [decision for decision in decisions if not (without_trusted and decision.id in self.trusted)]
        return float(np.mean([row.label != self.gold[row.id] for row in judged]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--no-encoder", action="store_true")
    parser.add_argument("--only", type=int, metavar="SEED")
    options = parser.parse_args()
    path = find_recipe("sentiment")
    overrides = {"data": {"trusted": TRUSTED}, "train": {"soft_labels": 1.0}}
    recipe = read_recipe(path, profile="embedded", overrides=overrides)
    if options.only is not None:
        fitted_scores([labelled(recipe, path.parent, options.only)])
        return
    seeds = [labelled(recipe, path.parent, seed) for seed in range(SEEDS)]
    labels_after(seeds)
    errors_found(seeds)
    budget(seeds)
    if not options.no_encoder:
        encoder(seeds)
    finish()


def labelled(recipe: Recipe, recipe_dir: Path, seed: int) -> Labelled:
    """Run split, verify and clean for one seed."""
    seeded = msgspec.structs.replace(recipe, seed=seed)
    context = RunContext(seeded, recipe_dir, Run(RUNS / f"seed-{seed}", Screen()), RUNS / "traces.sqlite")
    for stage in (SPLIT, VERIFY, CLEAN):
        run_stage(stage, context)
    return Labelled(
        context=context,
        rows=context.rows("train"),
        votes=read_rows(context.run.path("verify", "votes.jsonl"), Vote),
        gold={gold_row.id: gold_row.label for gold_row in context.gold()},
        trusted=frozenset(row.id for row in context.trusted()),
    )


def labels_after(seeds: Sequence[Labelled]) -> None:
    """Print the share of wrong training labels by method."""
    print(
        f"\nwrong training labels, {len(seeds[0].rows)} rows, {TRUSTED} trusted    all rows   without the trusted ones"
    )
    shares = {}
    for name in ("given", "consensus", "repair", "auto"):
        decided = [
            seed.context.decisions() if name == "auto" else seed.cleaned(seed.votes, name).decisions for seed in seeds
        ]
        if name == "given":
            # As they came: not even the trusted rows are mended.
            decided = [[msgspec.structs.replace(d, label=d.given) for d in value] for value in decided]
        shares[name] = [seed.wrong(value) for seed, value in zip(seeds, decided, strict=True)]
        apart = [seed.wrong(value, without_trusted=True) for seed, value in zip(seeds, decided, strict=True)]
        print(
            f"  {name:<42} {np.mean(shares[name]):8.4f}   {np.mean(apart):8.4f}   {np.round(shares[name], 4).tolist()}"
        )
    print(f"  auto chose {[seed.context.run.report('clean')['method'] for seed in seeds]}")
    value = float(np.mean(shares["auto"]))
    bar("wrong_labels_repaired", round(value, 4), "<= 0.105", value <= 0.105)


def errors_found(seeds: Sequence[Labelled]) -> None:
    """Print the average precision with which each method ranks the wrong given labels, trusted rows left out."""
    precision: dict[str, list[float]] = {"cleanlab alone": [], "teacher alone": [], "consensus": [], "repair": []}
    for seed in seeds:
        place = {label: i for i, label in enumerate(seed.context.labels)}
        judged = [i for i, row in enumerate(seed.rows) if row.id not in seed.trusted]
        wrong = np.array([row.label != seed.gold[row.id] for row in seed.rows])[judged]
        by_id = {vote.id: vote for vote in seed.votes}
        teacher = [_doubt_of_teacher(row.label, by_id.get(row.id)) for row in seed.rows]
        for name in ("consensus", "repair"):
            decisions = seed.cleaned(seed.votes, name).decisions
            doubt = np.array([1 - d.probs[place[d.given]] for d in decisions])[judged]
            precision[name].append(average_precision_score(wrong, doubt))
        alone = np.array([1 - d.scores["given_quality"] for d in decisions])[judged]
        precision["cleanlab alone"].append(average_precision_score(wrong, alone))
        precision["teacher alone"].append(average_precision_score(wrong, np.array(teacher)[judged]))
    print("\nfinding the wrong given labels        average precision, mean of the seeds")
    for name, values in precision.items():
        print(f"  {name:<36} {np.mean(values):.4f}   {np.round(values, 4).tolist()}")
    means = {name: float(np.mean(values)) for name, values in precision.items()}
    best = max(("cleanlab alone", "teacher alone", "consensus"), key=means.__getitem__)
    wanted = f">= {means[best]:.4f} ({best})"
    bar("error_ranking_of_repair", round(means["repair"], 4), wanted, means["repair"] >= means[best])


def _doubt_of_teacher(given: str, vote: Vote | None) -> float:
    """Return how far the teacher's vote speaks against the given label, 0 to 1."""
    if vote is None or vote.label is None:
        return 0.5
    sure = 0.5 if vote.confidence is None else vote.confidence
    return sure if vote.label != given else 1 - sure


def budget(seeds: Sequence[Labelled]) -> None:
    """Print the wrong labels when the teacher is asked about a part of the rows, by the order of asking.

    Conflicts first is the order in which `verify.max_calls` spends: trusted rows, then those that repair doubts most.
    """
    curves: dict[str, list[list[float]]] = {"conflicts first": [], "random order": []}
    for seed in seeds:
        place = {label: i for i, label in enumerate(seed.context.labels)}
        given = np.array([place[row.label] for row in seed.rows])
        trusted = np.array([row.id in seed.trusted for row in seed.rows])
        unasked = np.array([decision.probs for decision in seed.cleaned([], "repair").decisions])
        doubtful = by_uncertainty(given, unasked)
        shuffled = np.random.default_rng(seed.seed).permutation(len(seed.rows))
        n_asked = [round(share * len(seed.rows)) for share in BUDGETS]
        curves["conflicts first"].append([_wrong_after(seed, trusted_first(doubtful, trusted, n)[:n]) for n in n_asked])
        curves["random order"].append([_wrong_after(seed, shuffled[:n]) for n in n_asked])
    print("\nwrong labels by the share of rows that the teacher is asked about, mean of the seeds")
    print(f"  {'':<16}" + "".join(f"{share:8.0%}" for share in BUDGETS))
    means = {name: np.mean(values, axis=0) for name, values in curves.items()}
    for name, values in means.items():
        print(f"  {name:<16}" + "".join(f"{value:8.4f}" for value in values))
    full = means["conflicts first"][-1]
    enough = next(share for share, wrong in zip(BUDGETS, means["conflicts first"], strict=True) if wrong <= full)
    bar("calls_to_full_quality_conflicts_first", f"{enough:.0%}", "<= 50%", enough <= 0.5)


def _wrong_after(seed: Labelled, chosen: np.ndarray) -> float:
    asked = {seed.rows[i].id for i in chosen}
    return seed.wrong(seed.cleaned([vote for vote in seed.votes if vote.id in asked], "repair").decisions)


def fitted_scores(seeds: Sequence[Labelled]) -> dict[str, list[Report]]:
    """Return the test scores of the encoders, a list of the seeds a variant."""
    return {variant: [_fitted(seed, variant) for seed in seeds] for variant in VARIANTS}


def encoder(seeds: Sequence[Labelled]) -> None:
    """Print what the fine-tuned encoder gains, by the labels that it learns from."""
    scores = fitted_scores(seeds)
    print("\nencoder fine-tuned on             accuracy  macro-F1   by seed")
    table = {name: np.array([[s["accuracy"], s["macro_f1"]] for s in of_seeds]) for name, of_seeds in scores.items()}
    for name, of_seeds in table.items():
        print(
            f"  {name:<30} {of_seeds[:, 0].mean():8.4f}  {of_seeds[:, 1].mean():8.4f}   {np.round(of_seeds, 4).tolist()}"
        )
    for column, measure in enumerate(("accuracy", "macro_f1")):
        gains = table["repaired"][:, column] - table["given"][:, column]
        ceiling = float((table["gold"] - table["given"])[:, column].mean())
        mean, half = float(gains.mean()), _half_interval(gains)
        shown = f"{mean:+.4f} (95 % interval {mean - half:+.4f} to {mean + half:+.4f})"
        bar(f"{measure}_gain_over_given", shown, ">= +0.02", mean >= 0.02)
        bar(f"{measure}_way_to_gold", f"{mean:+.4f} of {ceiling:+.4f}", ">= 60%", mean >= 0.6 * ceiling)


def _half_interval(values: np.ndarray) -> float:
    """Return half the width of Student's 95 % interval of the mean."""
    return float(student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))


def _fitted(labelled: Labelled, variant: str) -> Report:
    """Return the test scores of the encoder that learned the labels of a variant."""
    context, name = labelled.context, f"fitted-{variant}"

    def work(io: StageIO) -> Report:
        from hybrid.encoders.exporting import export
        from hybrid.runtime.encoder import Encoder

        checkpoint = fit(io, io.recipe.train, _training_rows(labelled, variant)).checkpoint
        exported = io.scratch() / "export"
        export(checkpoint, labelled.rows, io.labels, io.recipe.export, folder=exported, reading=io.limits)
        test = io.rows("test")
        logits = Encoder(exported, n_labels=len(io.labels), reading=io.limits).logits([row.text for row in test])
        gold, predicted = np.array([io.labels.index(row.label) for row in test]), logits.argmax(axis=1)
        return {"accuracy": accuracy(gold, predicted), "macro_f1": macro_f1(gold, predicted, len(io.labels))}

    reads = Reads(
        settings=("train", "export", "task", "seed"), tables=(ROWS, DECISIONS), reports=(LABELS,), encoder=True
    )
    stage = Stage(
        name=name,
        purpose="training rows of a variant -> scores",
        version=1,
        reads=lambda _: reads,
        writes=(),
        code=(),
        work=work,
        summary_line=lambda r: f"accuracy {r['accuracy']:.4f}, macro-F1 {r['macro_f1']:.4f}",
    )
    run_stage(stage, context)
    return context.report(name)


def _training_rows(seed: Labelled, variant: str) -> list[TrainingRow]:
    """Return the training rows with labels as given, repaired, or gold (the ceiling, which no recipe can train on)."""
    rows, config = seed.rows, seed.context.recipe.train
    if variant == "gold":
        rows = [msgspec.structs.replace(row, label=seed.gold[row.id]) for row in rows]
    if variant != "repaired":
        config = msgspec.structs.replace(config, labels="given")
    return training_rows(rows, seed.context.decisions(), [], seed.context.labels, config)


if __name__ == "__main__":
    main()
