"""What the evidence head is worth: its words beside the teacher's own quotes, and the labels beside a training without it.

`python benchmarks/evidence.py RUN [--seeds N] [--variants NAME ...]`. RUN is a finished run of the sentiment recipe
(`python -m hybrid run sentiment`). Its training rows are trained again, each way and seed once: `plain`; `evidence` with
the head (`train.evidence = 0.5`); `random`, the control, with the quotes of each row moved along its words at random, so
that as many words are quoted; and `cues`, where the words that a tagger calls evidence are written into the text
(`[CUE: ...]`) at training and at serving. The taggers of the training rows did not see them.

Judged on the test rows of the run, by gold, and on the recorded teacher's reasons for those rows, which train nothing.
Every training is kept in `runs/evidence/` and not done again; one of MiniLM in bf16 takes a minute or two on two cores.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
from scipy.stats import t as student_t
from targets import bar, finish

from hybrid.artifacts import model_folder
from hybrid.config import Recipe
from hybrid.data.quotes import merged, quoted_spans
from hybrid.data.training_rows import TrainingRow, training_rows
from hybrid.encoders.checkpoint import load_classifier, load_tokenizer
from hybrid.encoders.evidence import add_head
from hybrid.encoders.exporting import checkpoint_logits, checkpoint_words, export_lean
from hybrid.encoders.training import train
from hybrid.evaluation.intervals import mean_difference
from hybrid.evaluation.metrics import accuracy, macro_f1
from hybrid.evaluation.quoted_words import WordScores, overlapping, word_scores
from hybrid.files.table import read_rows
from hybrid.recipe_files.find import find_recipe
from hybrid.recipe_files.read import read_recipe
from hybrid.runtime.bundle import MODEL, TOKENIZER
from hybrid.runtime.encoder import Encoder
from hybrid.runtime.evidence import evidence_words
from hybrid.runtime.explain import words_of
from hybrid.runtime.text_encoder import TextLimits
from hybrid.stages.stage import DECISIONS, GOLD, ROWS, VOTES
from hybrid.stages.train import CHECKPOINT
from hybrid.types import EvidenceWord, Example, Span

PATH = find_recipe("sentiment")
RUNS = Path("runs") / "evidence"
SEEDS = 5
WEIGHT = 0.5
VARIANTS = ("plain", "evidence", "random", "cues")
FOLDS = 2
"""Taggers that write the cues of the training rows: each writes those of the rows that it did not see."""
TIMED = 300
"""Texts on which the cost of the head is timed."""
ROUNDS = 4
"""Times that they are run by each graph; the fastest counts."""
CUE = 0.5
"""The score from which a word is a cue."""


class Trace(msgspec.Struct, frozen=True):
    """A recorded reason."""

    id: str
    rationale: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One training's answers on the test rows."""

    predicted: list[int]
    """Class indices."""
    words: WordScores | None
    """The words' scores beside the teacher's quotes; None for a training without the head."""
    seconds: float


class Data(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of the run, and the teacher's quotes of its test rows."""

    recipe: Recipe
    rows: list[TrainingRow]
    test: list[Example]
    gold: np.ndarray
    quotes: list[tuple[Span, ...]]
    """Of each test row; they judge alone."""
    weight: float
    """`train.evidence` of the trainings with the head."""

    @property
    def reading(self) -> TextLimits:
        return TextLimits(max_length=self.recipe.encoder.max_length)


class Tagger(msgspec.Struct, frozen=True, kw_only=True):
    """What a training leaves: the labels' logits and the words' scores of texts."""

    logits: Callable[[Sequence[str]], np.ndarray]
    words: Callable[[Sequence[str]], list[list[EvidenceWord]]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the folder of a finished run")
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS, metavar="NAME")
    parser.add_argument("--weight", type=float, default=WEIGHT, help="train.evidence (%(default)s)")
    parser.add_argument("--precision", default="bf16", choices=("bf16", "fp32"))
    options = parser.parse_args()
    data = read_data(options.run, options.precision, options.weight)
    outcomes: dict[str, list[Outcome]] = {variant: [] for variant in options.variants}
    for seed in range(options.seeds):
        for variant in options.variants:
            outcomes[variant].append(outcome(data, variant, seed))
    table(data, outcomes)
    bars(data, outcomes)
    time_head(options.run, data)
    finish()


def read_data(run: Path, precision: str, weight: float = WEIGHT) -> Data:
    """Read a run's rows with what cleaning decided, its votes, and the recorded reasons about its test rows."""
    recipe = read_recipe(PATH, overrides={"train": {"precision": precision}})
    rows = read_rows(run / ROWS.path, Example)
    gold = {row.id: row.label for row in read_rows(run / GOLD.path, GOLD.row_type)}
    train_rows, test = ([row for row in rows if row.part == part] for part in ("train", "test"))
    reasons = {trace.id: trace.rationale for trace in read_rows(PATH.parent / recipe.teacher.traces, Trace)}
    return Data(
        recipe=recipe,
        rows=training_rows(
            train_rows,
            read_rows(run / DECISIONS.path, DECISIONS.row_type),
            [],
            recipe.labels,
            recipe.train,
            votes=read_rows(run / VOTES.path, VOTES.row_type),
        ),
        test=test,
        gold=np.array([recipe.labels.index(gold[row.id]) for row in test]),
        quotes=[quoted_spans(row.text, reasons[row.id]).spans for row in test],
        weight=weight,
    )


def outcome(data: Data, variant: str, seed: int) -> Outcome:
    """Train one way with one seed, unless that was done before."""
    way = variant if variant == "plain" else f"{variant}-{data.weight:g}"
    path = RUNS / f"{data.recipe.train.precision}-{way}-{seed}.json"
    if path.exists():
        return msgspec.json.decode(path.read_bytes(), type=Outcome)
    start = time.perf_counter()
    texts = [row.text for row in data.test]
    with tempfile.TemporaryDirectory() as scratch:
        fitted = partial(fit, data, seed=seed, scratch=Path(scratch))
        if variant == "plain":
            tagger = fitted(data.rows, weight=0.0)
        elif variant == "evidence":
            tagger = fitted(data.rows, weight=data.weight)
        elif variant == "random":
            tagger = fitted(moved_at_random(data.rows, seed), weight=data.weight)
        else:
            rows, texts = with_cues(data, seed, fitted)
            tagger = fitted(rows, weight=0.0)
        predicted = tagger.logits(texts).argmax(axis=1).tolist()
        words = tagger.words(texts) if variant in ("evidence", "random") else None
    result = Outcome(
        predicted=predicted,
        words=words and word_scores(words, data.quotes),
        seconds=round(time.perf_counter() - start, 1),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(result))
    part.replace(path)
    print(f"{variant}, seed {seed}: {scores_of(data, result)}, {result.seconds:.0f} s", flush=True)
    return result


def fit(data: Data, rows: Sequence[TrainingRow], *, weight: float, seed: int, scratch: Path) -> Tagger:
    """Train the recipe's encoder on these rows."""
    config = msgspec.structs.replace(data.recipe.train, evidence=weight)
    with tempfile.TemporaryDirectory(dir=scratch) as workdir:
        fitted = train(
            rows,
            data.recipe.labels,
            config,
            encoder=model_folder(data.recipe.encoder.model),
            reading=data.reading,
            workdir=Path(workdir),
            seed=seed,
        )
        model, tokenizer = (
            load_classifier(fitted.checkpoint, data.recipe.labels).eval(),
            load_tokenizer(fitted.checkpoint),
        )
    return Tagger(
        logits=lambda texts: checkpoint_logits(model, tokenizer, texts, data.reading),
        words=lambda texts: checkpoint_words(model, tokenizer, texts, data.reading),
    )


def moved_at_random(rows: Sequence[TrainingRow], seed: int) -> list[TrainingRow]:
    """Move the quotes of each row along its words, from the end round to the beginning, by a number drawn at random."""
    rng = np.random.default_rng(seed)
    moved = []
    for row in rows:
        words = words_of(row.text)
        reasons = []
        for spans in row.quotes:
            quoted = np.roll(overlapping(words, spans), int(rng.integers(len(words))))
            reasons.append(merged(word for word, is_quoted in zip(words, quoted, strict=True) if is_quoted))
        moved.append(msgspec.structs.replace(row, quotes=tuple(spans for spans in reasons if spans)))
    return moved


def with_cues(data: Data, seed: int, fitted: Callable[..., Tagger]) -> tuple[list[TrainingRow], list[str]]:
    """Write the evidence words of cross-fitted taggers into the training texts, and those of all taggers into the test texts."""
    fold = np.random.default_rng(seed).permutation(len(data.rows)) % FOLDS
    taggers = [
        fitted([row for row, of_row in zip(data.rows, fold, strict=True) if of_row != k], weight=data.weight)
        for k in range(FOLDS)
    ]
    rows = list(data.rows)
    for k, tagger in enumerate(taggers):
        places = np.flatnonzero(fold == k)
        words = tagger.words([data.rows[i].text for i in places])
        for i, of_text in zip(places, words, strict=True):
            rows[i] = msgspec.structs.replace(rows[i], text=cued(rows[i].text, of_text), quotes=())
    texts = [row.text for row in data.test]
    by_tagger = [tagger.words(texts) for tagger in taggers]
    pooled = [
        [
            msgspec.structs.replace(word, score=float(np.mean([words[i].score for words in of_text])))
            for i, word in enumerate(of_text[0])
        ]
        for of_text in zip(*by_tagger, strict=True)
    ]
    return rows, [cued(text, words) for text, words in zip(texts, pooled, strict=True)]


def cued(text: str, words: Sequence[EvidenceWord]) -> str:
    """Append the evidence words to a text; runs of them stay together."""
    cues: list[str] = []
    place = -1
    for i, word in enumerate(words):
        if word.score < CUE:
            continue
        cues = [*cues[:-1], f"{cues[-1]} {word.text}"] if cues and place == i - 1 else [*cues, word.text]
        place = i
    return f"{text} [CUE: {'; '.join(cues)}]" if cues else text


def table(data: Data, outcomes: dict[str, list[Outcome]]) -> None:
    """Print a line each way of training, with its paired difference from the plain one where that was trained."""
    n_labels, reasons = len(data.recipe.labels), sum(bool(spans) for spans in data.quotes)
    print(
        f"\n{len(data.rows)} training rows, {sum(bool(row.quotes) for row in data.rows)} with quotes; {len(data.test)} test rows, "
        f"{reasons} with the teacher's quotes; {data.recipe.train.precision}"
    )
    print(f"{'':<10} {'seeds':>5} {'accuracy':>17} {'macro-F1':>17}  {'words':>15}  accuracy against plain, in points")
    for variant, of_variant in outcomes.items():
        right = right_of(data, of_variant)
        f1 = [macro_f1(data.gold, np.array(result.predicted), n_labels) for result in of_variant]
        precisions = [result.words.average_precision for result in of_variant if result.words]
        words = spread(precisions) if precisions else "-"
        print(
            f"{variant:<10} {len(of_variant):5} {spread(right.mean(axis=1)):>17} {spread(f1):>17}  {words:>15}  "
            f"{against_plain(data, variant, outcomes)}"
        )
    shares = {result.words.quoted_share for of_variant in outcomes.values() for result in of_variant if result.words}
    print(
        f"the share of quoted words, which scores that tell nothing reach: {', '.join(f'{share:.3f}' for share in shares)}"
    )


def spread(figures: Sequence[float] | np.ndarray) -> str:
    """A mean over the seeds, and half of its 95 % interval by Student's t."""
    n, mean = len(figures), float(np.mean(figures))
    if n < 2:
        return f"{mean:.4f}"
    return f"{mean:.4f} ± {student_t.ppf(0.975, n - 1) * np.std(figures, ddof=1) / n**0.5:.4f}"


def against_plain(data: Data, variant: str, outcomes: dict[str, list[Outcome]]) -> str:
    """The difference from plain training on the same rows and seeds, with its interval over the rows."""
    if variant == "plain" or "plain" not in outcomes:
        return "-"
    gain = mean_difference(right_of(data, outcomes[variant]), right_of(data, outcomes["plain"]))
    return f"{100 * gain.value:+.2f} [{100 * gain.low:+.2f}, {100 * gain.high:+.2f}]"


def right_of(data: Data, results: Sequence[Outcome]) -> np.ndarray:
    """Which test rows each seed got right [seeds, n]."""
    return np.array([np.array(result.predicted) == data.gold for result in results])


def bars(data: Data, outcomes: dict[str, list[Outcome]]) -> None:
    """Print the targets of the evidence head."""
    if "evidence" not in outcomes:
        return
    precision = float(np.mean([result.words.average_precision for result in outcomes["evidence"] if result.words]))
    bar("evidence_average_precision", round(precision, 4), ">= 0.75", precision >= 0.75)
    if "plain" in outcomes:
        lost = 100 * float(right_of(data, outcomes["plain"]).mean() - right_of(data, outcomes["evidence"]).mean())
        bar("evidence_accuracy_lost_in_points", round(lost, 3), "<= 0.3", lost <= 0.3)


def time_head(run: Path, data: Data) -> None:
    """Print the processor time of a text by the run's encoder in fp32, with and without a head, and that of its words."""
    texts, labels = [row.text for row in data.test][:TIMED], data.recipe.labels
    model = load_classifier(run / CHECKPOINT, labels).eval()
    ms = dict.fromkeys(("without", "with"), float("inf"))
    with tempfile.TemporaryDirectory() as scratch:
        encoders = {}
        for name in ms:
            folder = Path(scratch) / name
            folder.mkdir()
            shutil.copy(run / CHECKPOINT / TOKENIZER, folder)
            if name == "with":
                add_head(model)
            export_lean(model, ("input_ids", "attention_mask"), folder / MODEL, opset=data.recipe.export.opset)
            encoders[name] = Encoder(folder, n_labels=len(labels), reading=data.reading, threads=1)
        encoded = encoders["with"].encode(texts, offsets=True)
        for _ in range(ROUNDS):
            for name, encoder in encoders.items():
                ms[name] = min(ms[name], processor_ms(len(texts), partial(encoder.run, encoded)))
        tokens = encoders["with"].run_with_evidence(encoded).token_logits
        words = processor_ms(len(texts), lambda: list(map(evidence_words, texts, encoded, tokens)))
    print(f"processor ms a text in fp32: {ms['without']:.3f}, with the head {ms['with']:.3f}; its words {words:.3f}")
    share = (ms["with"] - ms["without"]) / ms["without"]
    bar("evidence_share_of_processor_time", round(share, 3), "<= 0.05", share <= 0.05)


def processor_ms(n_texts: int, act: Callable[[], object]) -> float:
    """The processor time of `act` in milliseconds a text."""
    start = time.process_time()
    act()
    return 1000 * (time.process_time() - start) / n_texts


def scores_of(data: Data, result: Outcome) -> str:
    """One training's scores in words."""
    predicted = np.array(result.predicted)
    n_labels = len(data.recipe.labels)
    words = f", words {result.words.average_precision:.3f}" if result.words else ""
    return (
        f"accuracy {accuracy(data.gold, predicted):.4f}, macro-F1 {macro_f1(data.gold, predicted, n_labels):.4f}{words}"
    )


if __name__ == "__main__":
    main()
