"""What the recorded drafts of the sentiment recipe are worth to the rare class, over five seeds.

`python benchmarks/synthesis.py [--seeds N ...] [--no-encoder]`. Every seed draws split and raters anew, cleans with the
recorded teacher, checks the drafts and lets the gate judge them on frozen embeddings and then with the encoder itself (two
trainings a seed). Test rows score the student that let the drafts pass, trained without and with them. Test rows choose
nothing.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from targets import bar, finish

from hybrid.artifacts import fetch, model_folder
from hybrid.config import Recipe
from hybrid.data.sources import load_data
from hybrid.data.training_rows import TrainingRow, training_rows
from hybrid.encoders.checkpoint import load_classifier, load_tokenizer
from hybrid.encoders.embed import embed
from hybrid.encoders.exporting import checkpoint_logits
from hybrid.encoders.training import train
from hybrid.evaluation.metrics import accuracy, macro_f1
from hybrid.labels.cleaning import clean
from hybrid.llm.traces.recorded import Recorded
from hybrid.recipe_files.find import find_recipe
from hybrid.recipe_files.read import read_recipe
from hybrid.runtime.text_encoder import TextLimits
from hybrid.stages.split import split
from hybrid.stages.synthesize import Synthesized, synthesize
from hybrid.teacher.drafts.gate import Batch, Gate, encoder_gate, fitted
from hybrid.teacher.drafts.recorded import read_drafts
from hybrid.teacher.vote_collection import Teacher, collect_votes
from hybrid.types import Decision, Example

SEEDS = 5
RARE = "neutral"
PATH = find_recipe("sentiment")


class Cleaned(msgspec.Struct, frozen=True):
    """One seed before any student: rows, their decisions, and the drafts as checked."""

    seed: int
    rows: list[Example]
    decisions: list[Decision]
    found: Synthesized


class Score(msgspec.Struct, frozen=True):
    """One student on the test rows."""

    recall: float
    accuracy: float
    macro_f1: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(SEEDS)), metavar="N")
    parser.add_argument("--no-encoder", action="store_true")
    options = parser.parse_args()
    recipe = read_recipe(PATH, overrides={"synthesize": {"use": True}})
    remember = Memory(recipe)
    runs = [prepare(recipe, seed, remember) for seed in options.seeds]
    passed = [run for run in runs if run.found.report["gate"]["passed"]]
    judge("frozen embeddings", len(runs), passed, [frozen_scores(recipe, run, remember) for run in passed])
    if passed and not options.no_encoder:
        accepted = [run for run in passed if tried_by_encoder(recipe, run).passed]
        judge("fine-tuned encoder", len(passed), accepted, [fine_tuned_scores(recipe, run) for run in accepted])
    finish()


class Memory:
    """Frozen embeddings of the recipe's encoder; a text is read once."""

    def __init__(self, recipe: Recipe) -> None:
        self._folder = model_folder(recipe.encoder.model)
        self._length = recipe.encoder.max_length
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        if new:
            self._known |= dict(zip(new, embed(self._folder, new, max_length=self._length), strict=True))
        return np.array([self._known[text] for text in texts])


def prepare(recipe: Recipe, seed: int, remember: Memory) -> Cleaned:
    """Return a seed's rows, cleaned, and the recorded drafts, checked and judged by the gate."""
    data = load_data(recipe.data, folder=PATH.parent, seed=seed, fetch=fetch, task=recipe.task)
    dealt = split(data.rows, recipe.labels, recipe.split, seed=seed, task=recipe.task)
    rows = [row for row in dealt.rows if row.part == "train"]
    teacher = Teacher(llm=Recorded(PATH.parent / recipe.teacher.traces), config=recipe.teacher)
    votes = collect_votes(rows, recipe.labels, recipe.verify, teacher=teacher).votes
    cleaned = clean(rows, votes, recipe.labels, recipe.clean, embed=remember, seed=seed)
    synthesized = synthesize(
        read_drafts(PATH.parent / recipe.synthesize.drafts),
        dealt.rows,
        cleaned.decisions,
        cleaned.embeddings,
        recipe.labels,
        recipe.synthesize,
        embed=remember,
        relabel=lambda _: [],
        balanced=recipe.train.class_weights == "balanced",
        seed=seed,
    )
    print(f"seed {seed}: refused {synthesized.report['refused']}\n  diversity: {synthesized.report['diversity']}")
    show_gate(msgspec.convert(synthesized.report["gate"], Gate))
    return Cleaned(seed, dealt.rows, cleaned.decisions, synthesized)


def frozen_scores(recipe: Recipe, run: Cleaned, remember: Memory) -> tuple[Score, Score]:
    """Return what logistic regression scores without and with the drafts."""
    test = [row for row in run.rows if row.part == "test"]
    scores = []
    for drafts in ([], run.found.drafts):
        rows = training_rows(of_part(run.rows, "train"), run.decisions, drafts, recipe.labels, recipe.train)
        batch = Batch(
            vectors=remember([row.text for row in rows]),
            targets=np.array([row.label for row in rows]),
            weights=np.array([row.weight for row in rows]),
        )
        predicted = fitted(batch, balanced=recipe.train.class_weights == "balanced").predict(
            remember([r.text for r in test])
        )
        scores.append(score(recipe, test, predicted))
    return scores[0], scores[1]


def tried_by_encoder(recipe: Recipe, run: Cleaned) -> Gate:
    """Return what the gate says when the encoder itself is tried, as `synthesize.use = "auto"` does."""
    rows = training_rows(of_part(run.rows, "train"), run.decisions, run.found.drafts, recipe.labels, recipe.train)
    real, drafts = ([row for row in rows if row.synthetic == written] for written in (False, True))
    print(f"seed {run.seed}, the encoder on a fifth of the real rows held out:")
    gate = encoder_gate(
        real,
        drafts,
        recipe.labels,
        [RARE],
        fit_predict=lambda _, fitting, texts: fine_tuned(recipe, run.seed, fitting, texts),
        seed=run.seed,
    )
    show_gate(gate)
    return gate


def show_gate(gate: Gate) -> None:
    print(
        f"  {gate.drafts} drafts, macro-F1 {gate.macro_f1[0]:.4f} -> {gate.macro_f1[1]:.4f}, recall on minority rows "
        f"{gate.recall_gain:+.4f} (p = {gate.recall_gain_p:.3f}): {gate.reason or 'passed'}",
        flush=True,
    )


def fine_tuned_scores(recipe: Recipe, run: Cleaned) -> tuple[Score, Score]:
    """Return what the recipe's encoder scores, trained as the recipe trains it, without and with the drafts."""
    test = of_part(run.rows, "test")
    scores = []
    for drafts in ([], run.found.drafts):
        rows = training_rows(of_part(run.rows, "train"), run.decisions, drafts, recipe.labels, recipe.train)
        scores.append(score(recipe, test, fine_tuned(recipe, run.seed, rows, [row.text for row in test])))
    return scores[0], scores[1]


def fine_tuned(recipe: Recipe, seed: int, rows: Sequence[TrainingRow], texts: Sequence[str]) -> np.ndarray:
    """Return class indices [n] of the texts by the recipe's encoder trained on rows."""
    reading = TextLimits(max_length=recipe.encoder.max_length)
    with tempfile.TemporaryDirectory() as scratch:
        trained = train(
            rows,
            recipe.labels,
            recipe.train,
            encoder=model_folder(recipe.encoder.model),
            reading=reading,
            workdir=Path(scratch),
            seed=seed,
        )
        model = load_classifier(trained.checkpoint, recipe.labels).eval()
        return checkpoint_logits(model, load_tokenizer(trained.checkpoint), texts, reading).argmax(axis=1)


def score(recipe: Recipe, test: Sequence[Example], predicted: np.ndarray) -> Score:
    """Return the scores of class indices [n] against gold."""
    gold = np.array([recipe.labels.index(row.label) for row in test])
    rare = gold == recipe.labels.index(RARE)
    return Score(
        float((predicted[rare] == gold[rare]).mean()),
        accuracy(gold, predicted),
        macro_f1(gold, predicted, len(recipe.labels)),
    )


def of_part(rows: Sequence[Example], part: str) -> list[Example]:
    """Return the rows of one part."""
    return [row for row in rows if row.part == part]


def table(name: str, runs: Sequence[Cleaned], scores: Sequence[tuple[Score, Score]]) -> None:
    """Print each seed without and with the drafts, and the means."""
    print(f"\n{name}, test, without -> with drafts ({RARE} recall, accuracy, macro-F1)")
    for run, (without, drafts) in zip(runs, scores, strict=False):
        print(f"  seed {run.seed}: " + ", ".join(f"{a:.4f} -> {b:.4f}" for a, b in pairs(without, drafts)))
    gains = np.array([[b - a for a, b in pairs(*both)] for both in scores])
    print("  mean gain: " + ", ".join(f"{mean:+.4f}" for mean in gains.mean(axis=0)))
    if len(gains) > 1:
        print(
            "  standard deviation over seeds: "
            + ", ".join(f"{deviation:.4f}" for deviation in gains.std(axis=0, ddof=1))
        )


def pairs(without: Score, drafts: Score) -> list[tuple[float, float]]:
    """Return the two sides of each figure."""
    return list(zip(msgspec.structs.astuple(without), msgspec.structs.astuple(drafts), strict=True))


def judge(student: str, n_seeds: int, passed: Sequence[Cleaned], scores: Sequence[tuple[Score, Score]]) -> None:
    """Print the scores and the bar: four points of recall where the gate let the drafts in, or no seed where it did."""
    name, wanted = f"synthesis_{student.replace(' ', '_').replace('-', '_')}", "refused, or recall >= +0.04"
    if not passed:
        bar(name, f"refused on all {n_seeds} seeds", wanted, True)
        return
    table(student, passed, scores)
    gain = float(np.mean([drafts.recall - without.recall for without, drafts in scores]))
    bar(name, f"{RARE} recall {gain:+.4f}, {len(passed)} of {n_seeds} seeds passed", wanted, gain >= 0.04)


if __name__ == "__main__":
    main()
