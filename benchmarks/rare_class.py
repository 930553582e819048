"""From how many real rows of a rare class on do a teacher's drafts stop helping, and does the gate know it?

`python benchmarks/rare_class.py [--seeds N ...] [--rows N ...] [--remedies NAME ...] [--encoder MODEL]`. The sentiment
data, cleaned, with the class `neutral` thinned to N training rows; the encoder is trained with each remedy and scored on
1,200 gold test rows, which choose nothing. A seed draws split, raters and training anew.

The rows that stay are those that most of the recorded drafts were written from, and only drafts whose parents all stayed
are used. `drafts of lost rows` is the other way, for comparison: all drafts of the split, most of which were written with
rows in sight that the thinned training set no longer has. `drafts without a plan` are 104 texts that the same author wrote
one after another from the labelling policy alone: no plan, no attributes, no examples; as many train as of the others.

Every training is kept in `runs/rare_class/` and not done again. One of MiniLM takes about a minute on two cores, so the
whole curve takes hours; a part of it prints its part of the table, and bars that need what is missing are short.
"""

import argparse
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
from scipy.stats import t as student_t
from targets import bar, finish

from hybrid.artifacts import fetch, model_folder
from hybrid.config import Recipe, TrainConfig
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
from hybrid.stages.synthesize import Synthesized, judging_labels, synthesize
from hybrid.teacher.drafts.gate import Training, encoder_gate
from hybrid.teacher.drafts.parents import halves, parent_places
from hybrid.teacher.drafts.recorded import read_drafts
from hybrid.teacher.drafts.verdict import NOT_JUDGED, Gate
from hybrid.teacher.vote_collection import Teacher, collect_votes
from hybrid.types import Decision, Draft, Example

RARE = "neutral"
PATH = find_recipe("sentiment")
WITHOUT_PLAN = Path(__file__).parent / "drafts_without_plan.jsonl"
RUNS = Path("runs") / "rare_class"
SEEDS = 5
ROWS = (10, 30, 100, 300, 0)
"""Training rows of the class that stay; 0 for all."""
FREE = ("nothing", "class weights", "focal loss", "oversampling")
REMEDIES = (*FREE, "drafts", "drafts and class weights", "drafts of lost rows", "drafts without a plan")
REDRAWS = 1000
SCORES = ("recall", "precision", "macro_f1", "accuracy")


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One thinned training set: its rows, their decisions and embeddings, and the drafts as checked."""

    rows: list[Example]
    decisions: list[Decision]
    embeddings: np.ndarray
    own: Synthesized
    of_lost_rows: Synthesized
    without_plan: Synthesized

    def drafts(self, checked: Synthesized | None = None) -> list[Draft]:
        """Return the accepted drafts: the cell's own, or those of another check."""
        return [draft for draft in (checked or self.own).drafts if draft.status == "accepted"]

    def part(self, name: str) -> list[Example]:
        """Return the rows of one part."""
        return [row for row in self.rows if row.part == name]


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """One training's predictions on the test rows, class indices, beside gold."""

    gold: list[int]
    predicted: list[int]
    rows: int
    synthetic: int
    seconds: float

    def scores(self, rare: int, n_labels: int) -> dict[str, float]:
        """Return `SCORES` of these predictions."""
        gold, predicted = np.array(self.gold), np.array(self.predicted)
        hits = float((predicted[gold == rare] == rare).sum())
        return {
            "recall": hits / max(1, int((gold == rare).sum())),
            "precision": hits / max(1, int((predicted == rare).sum())),
            "macro_f1": macro_f1(gold, predicted, n_labels),
            "accuracy": accuracy(gold, predicted),
        }


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """What the gate decided in one cell, and what the drafts are worth on its test rows over the best free remedy."""

    rows: int
    seed: int
    accepted: bool
    gain: float
    """Of macro-F1."""
    interval: tuple[float, float]
    """95 %, by bootstrap over the test rows."""

    @property
    def clear(self) -> bool:
        """Whether the gain is beyond its interval."""
        return not self.interval[0] <= 0 <= self.interval[1]

    @property
    def right(self) -> bool:
        """Whether the gate decided as the test rows would."""
        return self.accepted == (self.gain > 0)


class Memory:
    """Frozen embeddings of the recipe's encoder; a text is read once."""

    def __init__(self, recipe: Recipe) -> None:
        self._folder = model_folder(recipe.encoder.model)
        self._length = recipe.encoder.max_length
        self._vectors: dict[str, np.ndarray] = {}

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        new = list(dict.fromkeys(text for text in texts if text not in self._vectors))
        if new:
            self._vectors |= dict(zip(new, embed(self._folder, new, max_length=self._length), strict=True))
        return np.array([self._vectors[text] for text in texts])


class Cleaned(msgspec.Struct, frozen=True, kw_only=True):
    """One seed before thinning."""

    rows: list[Example]
    decisions: list[Decision]
    embeddings: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(SEEDS)), metavar="N")
    parser.add_argument("--rows", type=int, nargs="+", default=list(ROWS), metavar="N", help="0 for all")
    parser.add_argument("--remedies", nargs="+", default=list(REMEDIES), choices=REMEDIES, metavar="NAME")
    parser.add_argument("--gate", action="store_true", help="ask the gate in each cell too: about four trainings more")
    parser.add_argument(
        "--encoder", default="", help="another encoder than the recipe's, such as packaged:all-mpnet-base-v2"
    )
    options = parser.parse_args()
    settings: dict[str, object] = {"synthesize": {"use": True, "enough": 0}}
    if options.encoder:
        settings["encoder"] = {"model": options.encoder}
    recipe = read_recipe(PATH, overrides=settings)
    remember = Memory(recipe)
    curve: dict[int, dict[str, list[dict[str, float]]]] = {}
    decided: list[Decided] = []
    for n_rows in options.rows:
        curve[n_rows] = {remedy: [] for remedy in options.remedies}
        for seed in options.seeds:
            cell = thinned(recipe, cleaned(recipe, seed, remember), n_rows, seed, remember)
            results = {remedy: trained(recipe, cell, n_rows, remedy, seed) for remedy in options.remedies}
            for remedy, result in results.items():
                curve[n_rows][remedy].append(result.scores(recipe.labels.index(RARE), len(recipe.labels)))
            if options.gate:
                accepted = accepted_by_gate(recipe, cell, n_rows, seed)
                decided.append(beside_test(results, accepted, n_rows, seed, len(recipe.labels)))
        show(n_rows, curve[n_rows])
    judge(curve)
    if decided:
        judge_gate(decided)
    finish()


def cleaned(recipe: Recipe, seed: int, remember: Memory) -> Cleaned:
    """Return a seed's rows and what cleaning with the recorded teacher decided about the training rows."""
    data = load_data(recipe.data, folder=PATH.parent, seed=seed, fetch=fetch, task=recipe.task)
    dealt = split(data.rows, recipe.labels, recipe.split, seed=seed, task=recipe.task)
    rows = [row for row in dealt.rows if row.part == "train"]
    teacher = Teacher(llm=Recorded(PATH.parent / recipe.teacher.traces), config=recipe.teacher)
    votes = collect_votes(rows, recipe.labels, recipe.verify, teacher=teacher).votes
    decided = clean(rows, votes, recipe.labels, recipe.clean, embed=remember, seed=seed)
    return Cleaned(rows=list(dealt.rows), decisions=list(decided.decisions), embeddings=decided.embeddings)


def thinned(recipe: Recipe, whole: Cleaned, n_rows: int, seed: int, remember: Memory) -> Cell:
    """Return the training set with `n_rows` rows of the rare class, and the drafts as its checks leave them."""
    drafts = [draft for draft in read_drafts(PATH.parent / recipe.synthesize.drafts) if draft.label == RARE]
    train = [row for row in whole.rows if row.part == "train"]
    rare = [d.id for d in whole.decisions if d.label == RARE and d.weight > 0]
    stay = set(parents_first(rare, drafts, seed)[: n_rows or len(rare)])
    lost = set(rare) - stay
    still = [row.id not in lost for row in train]
    rows = [row for row in whole.rows if row.id not in lost]
    decisions = [d for d in whole.decisions if d.id not in lost]
    embeddings = whole.embeddings[np.array(still)]
    in_split = {row.id for row in train}
    of_split = [d for d in drafts if set(d.parents) <= in_split]

    def check(candidates: Sequence[Draft]) -> Synthesized:
        return synthesize(
            candidates,
            rows,
            decisions,
            embeddings,
            recipe.labels,
            recipe.synthesize,
            embed=remember,
            relabel=lambda _: [],
            seed=seed,
        )

    return Cell(
        rows=rows,
        decisions=decisions,
        embeddings=embeddings,
        own=check(drafts),
        of_lost_rows=check([msgspec.structs.replace(draft, parents=()) for draft in of_split]),
        without_plan=check(read_drafts(WITHOUT_PLAN)),
    )


def parents_first(rare: Sequence[str], drafts: Sequence[Draft], seed: int) -> list[str]:
    """Return row ids in the order in which they stay: first those from which most drafts were written, the rest at random."""
    order: list[str] = []
    open_drafts = [set(draft.parents) for draft in drafts if set(draft.parents) <= set(rare)]
    while any(open_drafts):
        wanted: Counter[str] = Counter()
        for parents in open_drafts:
            for parent in sorted(parents):
                wanted[parent] += 1 / len(parents) ** 2  # type: ignore[assignment]
        order.append(wanted.most_common(1)[0][0])
        open_drafts = [parents - {order[-1]} for parents in open_drafts]
    rest = [row for row in rare if row not in set(order)]
    return order + [rest[i] for i in np.random.default_rng(seed).permutation(len(rest))]


Plan = tuple[list[TrainingRow], TrainConfig]


def plan(recipe: Recipe, cell: Cell, remedy: str) -> Plan:
    """Return the rows and the settings of one remedy's training."""
    real = training_rows(cell.part("train"), cell.decisions, [], recipe.labels, recipe.train)

    def with_drafts(drafts: Sequence[Draft]) -> list[TrainingRow]:
        return training_rows(cell.part("train"), cell.decisions, drafts, recipe.labels, recipe.train)

    weighted = msgspec.structs.replace(recipe.train, class_weights="balanced")
    plans: dict[str, Callable[[], Plan]] = {
        "nothing": lambda: (real, recipe.train),
        "class weights": lambda: (real, weighted),
        "focal loss": lambda: (real, msgspec.structs.replace(recipe.train, loss="focal")),
        "oversampling": lambda: (
            oversampled(real, recipe.labels.index(RARE), len(cell.drafts())),
            recipe.train,
        ),
        "drafts": lambda: (with_drafts(cell.drafts()), recipe.train),
        "drafts and class weights": lambda: (with_drafts(cell.drafts()), weighted),
        "drafts of lost rows": lambda: (with_drafts(cell.drafts(cell.of_lost_rows)), recipe.train),
        "drafts without a plan": lambda: (
            with_drafts(cell.drafts(cell.without_plan)[: len(cell.drafts())]),
            recipe.train,
        ),
    }
    return plans[remedy]()


def oversampled(rows: Sequence[TrainingRow], rare: int, n_more: int) -> list[TrainingRow]:
    """Return the rows and `n_more` copies of those of the rare class, taken in turn, which are no validation rows."""
    own = [row for row in rows if row.label == rare]
    copies = [msgspec.structs.replace(own[i % len(own)], synthetic=True) for i in range(n_more)]
    return [*rows, *copies]


def trained(recipe: Recipe, cell: Cell, n_rows: int, remedy: str, seed: int) -> Trained:
    """Return one training's predictions on the test rows, from the file that keeps them if it was done before."""
    path = result_path(recipe, n_rows, seed, remedy)
    if path.exists():
        return msgspec.json.decode(path.read_bytes(), type=Trained)
    rows, config = plan(recipe, cell, remedy)
    test = cell.part("test")
    start = time.perf_counter()
    predicted = fit_predict(recipe, rows, config, [row.text for row in test], seed)
    result = Trained(
        gold=[recipe.labels.index(row.label) for row in test],
        predicted=[int(label) for label in predicted],
        rows=len(rows),
        synthetic=sum(row.synthetic for row in rows),
        seconds=round(time.perf_counter() - start, 1),
    )
    write(path, result)
    scores = result.scores(recipe.labels.index(RARE), len(recipe.labels))
    figures = ", ".join(f"{name} {scores[name]:.3f}" for name in SCORES)
    print(
        f"{n_rows or 'all'} rows, seed {seed}, {remedy} (+{result.synthetic}): {figures}; {result.seconds:.0f} s",
        flush=True,
    )
    return result


def fit_predict(
    recipe: Recipe, rows: Sequence[TrainingRow], config: TrainConfig, texts: Sequence[str], seed: int
) -> np.ndarray:
    """Train the encoder as the recipe does, and return the predicted class indices [n] of the texts."""
    reading = TextLimits(max_length=recipe.encoder.max_length)
    with tempfile.TemporaryDirectory() as scratch:
        fitted = train(
            rows,
            recipe.labels,
            config,
            encoder=model_folder(recipe.encoder.model),
            reading=reading,
            workdir=Path(scratch),
            seed=seed,
        )
        model = load_classifier(fitted.checkpoint, recipe.labels).eval()
        logits = checkpoint_logits(model, load_tokenizer(fitted.checkpoint), texts, reading)
    return np.asarray(logits.argmax(axis=1))


def accepted_by_gate(recipe: Recipe, cell: Cell, n_rows: int, seed: int) -> bool:
    """Return whether the gate takes the drafts of a cell: the screen, then the trial with the encoder.

    The trial is read from the file that keeps it if it was done before.
    """
    if RARE not in msgspec.convert(cell.own.report["gate"], Gate).passed:
        return False
    path = result_path(recipe, n_rows, seed, "gate")
    if not path.exists():
        rows = training_rows(cell.part("train"), cell.decisions, cell.drafts(), recipe.labels, recipe.train)
        by_id = judging_labels(cell.decisions, ())
        used = [decision for decision in cell.decisions if decision.weight > 0]
        ids = [decision.id for decision in used]
        judging = [by_id.get(row_id) for row_id in ids]

        def fit_and_predict(training: Training, texts: Sequence[str]) -> np.ndarray:
            config = msgspec.structs.replace(
                recipe.train, class_weights="balanced" if training.balanced else recipe.train.class_weights
            )
            return fit_predict(recipe, training.rows, config, texts, seed)

        verdict = encoder_gate(
            [row for row in rows if not row.synthetic],
            [row for row in rows if row.synthetic],
            np.array([NOT_JUDGED if label is None else recipe.labels.index(label) for label in judging]),
            recipe.labels,
            [RARE],
            parents=parent_places(cell.drafts(), ids),
            half=halves(ids, [decision.label for decision in used]),
            balanced=recipe.train.class_weights == "balanced",
            fit_predict=fit_and_predict,
        )
        write(path, verdict)
    verdict = msgspec.json.decode(path.read_bytes(), type=Gate)
    scores = ", ".join(f"{remedy} {score:.3f}" for remedy, score in verdict.macro_f1.items())
    print(
        f"{n_rows or 'all'} rows, seed {seed}, the gate: {'accepted' if verdict.passed else 'refused'}; "
        f"macro-F1 on {verdict.classes[0].rows} judging rows of {RARE} and the others: {scores}",
        flush=True,
    )
    return bool(verdict.passed)


def result_path(recipe: Recipe, n_rows: int, seed: int, name: str) -> Path:
    encoder = recipe.encoder.model.replace("/", "-").replace(":", "-")
    return RUNS / encoder / f"{n_rows or 'all'}-{seed}-{name.replace(' ', '-')}.json"


def write(path: Path, result: Trained | Gate) -> None:
    """Write a result whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(result))
    part.replace(path)


def show(n_rows: int, remedies: dict[str, list[dict[str, float]]]) -> None:
    """Print the table of one N: the mean over the seeds and half of its 95 % interval."""
    n_seeds = max(len(scores) for scores in remedies.values())
    print(f"\n{n_rows or 'all'} real rows of {RARE}, mean of {n_seeds} seeds, 95 % interval")
    print(f"{'':26}" + "".join(f"{name:>18}" for name in SCORES))
    for remedy, scores in remedies.items():
        cells = [interval([row[name] for row in scores]) for name in SCORES]
        print(f"{remedy:26}" + "".join(f"{mean:10.3f} ± {half:.3f}" for mean, half in cells))


def interval(figures: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half of its 95 % interval by Student's t over the seeds; nan with a single seed."""
    if len(figures) < 2:
        return float(np.mean(figures)), float("nan")
    error = float(np.std(figures, ddof=1)) / len(figures) ** 0.5
    return float(np.mean(figures)), float(student_t.ppf(0.975, len(figures) - 1)) * error


def judge(curve: dict[int, dict[str, list[dict[str, float]]]]) -> None:
    """Print the paired differences of drafts and the bars at 30 rows."""
    for n_rows, remedies in curve.items():
        if "drafts" not in remedies:
            continue
        best = max((r for r in FREE if r in remedies), key=lambda r: mean(remedies[r], "macro_f1"))
        for other in dict.fromkeys(("nothing", best)):
            gains = {name: paired(remedies["drafts"], remedies[other], name) for name in SCORES}
            text = ", ".join(f"{name} {gain:+.3f} ± {half:.3f}" for name, (gain, half) in gains.items())
            print(f"{n_rows or 'all'} rows: drafts over {other}{' (the best free)' if other == best else ''}: {text}")
        if n_rows == 30:
            over_nothing = {name: paired(remedies["drafts"], remedies["nothing"], name) for name in SCORES}
            over_best = paired(remedies["drafts"], remedies[best], "macro_f1")
            above("rare_class_30_macro_f1_over_nothing", over_nothing["macro_f1"], 0.10)
            above("rare_class_30_recall_over_nothing", over_nothing["recall"], 0.20)
            above("rare_class_30_macro_f1_over_best_free", over_best, 0.04)


def mean(scores: Sequence[dict[str, float]], name: str) -> float:
    return float(np.mean([row[name] for row in scores]))


def paired(left: Sequence[dict[str, float]], right: Sequence[dict[str, float]], name: str) -> tuple[float, float]:
    """Return the mean difference over the seeds and half of its 95 % interval."""
    return interval([a[name] - b[name] for a, b in zip(left, right, strict=True)])


def beside_test(results: dict[str, Trained], accepted: bool, n_rows: int, seed: int, n_labels: int) -> Decided:
    """Return the gate's decision beside the paired difference of macro-F1 on the test rows."""
    gold = np.array(results["drafts"].gold)
    predicted = {remedy: np.array(result.predicted) for remedy, result in results.items()}
    free = [remedy for remedy in FREE if remedy in results]
    best = max(free, key=lambda remedy: macro_f1(gold, predicted[remedy], n_labels))

    def gain(rows: np.ndarray) -> float:
        scores = [macro_f1(gold[rows], predicted[remedy][rows], n_labels) for remedy in ("drafts", best)]
        return scores[0] - scores[1]

    rng = np.random.default_rng(0)
    redrawn = [gain(rng.integers(len(gold), size=len(gold))) for _ in range(REDRAWS)]
    low, high = np.quantile(redrawn, [0.025, 0.975])
    return Decided(
        rows=n_rows,
        seed=seed,
        accepted=accepted,
        gain=gain(np.arange(len(gold))),
        interval=(float(low), float(high)),
    )


def judge_gate(decided: Sequence[Decided]) -> None:
    """Print the gate's decisions beside the test rows', and their bars."""
    print(f"\n{'cell':18}{'the gate':>12}{'drafts over the best free remedy, macro-F1 on test':>56}")
    for cell in decided:
        low, high = cell.interval
        verdict = "clear" if cell.clear else "not clear"
        print(
            f"{cell.rows or 'all'} rows, seed {cell.seed}".ljust(18)
            + f"{'accepted' if cell.accepted else 'refused':>12}{cell.gain:+14.3f} ({low:+.3f} to {high:+.3f}), {verdict}"
            + ("" if cell.right or not cell.clear else ", WRONG")
        )
    clear = [cell for cell in decided if cell.clear]
    right = sum(cell.right for cell in clear)
    most_lost = max((abs(cell.gain) for cell in clear if not cell.right), default=0.0)
    share = right / len(clear) if clear else float("nan")
    bar("rare_class_gate_decides_as_test", f"{right} of {len(clear)}", ">= 90 %", bool(clear) and share >= 0.9)
    bar("rare_class_gate_macro_f1_lost", f"{most_lost:.3f}", "<= 0.005", most_lost <= 0.005)


def above(name: str, gain: tuple[float, float], wanted: float) -> None:
    """Print one bar: the gain, and its interval above zero."""
    mean_gain, half = gain
    bar(
        name,
        f"{mean_gain:+.3f} ± {half:.3f}",
        f">= {wanted:+.2f}, interval above zero",
        mean_gain >= wanted and mean_gain > half,
    )


if __name__ == "__main__":
    main()
