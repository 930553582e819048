"""Repairing one teacher's labels of 77 intents with a few gold rows: labels, the ranking of errors, and students.

`python benchmarks/banking77.py [FOLDER]` with train.jsonl and test.jsonl (text, label, teacher_label) in FOLDER. The
teacher's label is all that training is given, but for the gold rows, which are declared trusted; cleaning is the stage
that a recipe runs, with its defaults. Texts and gold: Casanueva et al. 2020, "Efficient intent detection with dual
sentence encoders". Where the folder is absent the benchmark says so and stops.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from benchmark_data import banking77_folder
from sklearn.metrics import average_precision_score
from targets import bar, finish

from hybrid.artifacts import model_folder
from hybrid.config import CleanConfig, TrainConfig
from hybrid.data.training_rows import training_rows
from hybrid.data.trusted import draw_trusted
from hybrid.encoders.embed import embed
from hybrid.evaluation.baseline import tfidf_predictions
from hybrid.labels.cleaning import Cleaned, clean
from hybrid.labels.soft_regression import fit_softmax, softmax_log_probs
from hybrid.types import Example, Gold, Trusted

DRAWS = 5
BARS = {385: 0.82, 770: 0.85}
PENALTY = 0.5
SOFT = TrainConfig(soft_labels=1.0)
PUBLISHED = (
    ("TF-IDF, the teacher's labels alone", 0.739),
    ("0.5B LoRA student, the teacher's labels alone", 0.757),
    ("1.5B LoRA student, the teacher's labels alone", 0.765),
    ("TF-IDF, 385 gold rows alone", 0.646),
    ("TF-IDF, teacher's labels repaired with 385 gold rows", 0.788),
    ("TF-IDF, 770 gold rows alone", 0.749),
    ("TF-IDF, teacher's labels repaired with 770 gold rows", 0.814),
    ("TF-IDF, all gold", 0.913),
    ("17M encoder, all gold", 0.915),
)


class Bank(msgspec.Struct, frozen=True, kw_only=True):
    """Training rows under the teacher's label, their gold, the test texts and gold, and frozen embeddings of both."""

    rows: list[Example]
    gold: list[Gold]
    labels: list[str]
    test_texts: list[str]
    test_gold: np.ndarray
    embeddings: np.ndarray
    test_embeddings: np.ndarray

    def index(self, answers: Sequence[str]) -> np.ndarray:
        """Return class indices."""
        place = {label: i for i, label in enumerate(self.labels)}
        return np.array([place[label] for label in answers])

    @property
    def train_gold(self) -> np.ndarray:
        """The gold class of each training row, for judging alone."""
        return self.index([gold_row.label for gold_row in self.gold])


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """One draw of gold rows: the method taken, wrong labels, error ranking, and students' test accuracy."""

    method: str
    wrong: float
    wrong_untrusted: float
    ranking: float
    student: float
    gold_alone: float


def main() -> None:
    folder = banking77_folder(sys.argv[1:])
    if folder is None:
        return
    bank = load(folder)
    before = float(np.mean(bank.index([row.label for row in bank.rows]) != bank.train_gold))
    print(f"{len(bank.rows)} training rows with an answer of the teacher, {len(bank.test_texts)} test rows")
    print(f"wrong labels as the teacher gave them: {before:.4f}")
    for n_gold, wanted in BARS.items():
        draws = [figures(bank, per_label(bank, n_gold // len(bank.labels), seed), seed) for seed in range(DRAWS)]
        show(n_gold, "the same number a label", draws)
        show(n_gold, "as data.trusted draws them", [figures(bank, draw_trusted(bank.rows, bank.gold, n_gold, 0), 0)])
        accuracy, ranking = (float(np.mean([getattr(d, key) for d in draws])) for key in ("student", "ranking"))
        bar(f"accuracy_with_{n_gold}_gold", round(accuracy, 4), f">= {wanted}", accuracy >= wanted)
        bar(f"error_ranking_with_{n_gold}_gold", round(ranking, 4), ">= 0.65", ranking >= 0.65)
    references(bank)
    finish()


def load(folder: Path) -> Bank:
    """Return the data; rows that the teacher left unanswered are not trained on."""
    train, test = ([json.loads(line) for line in (folder / f"{part}.jsonl").open()] for part in ("train", "test"))
    train = [(number, row) for number, row in enumerate(train) if row["teacher_label"] is not None]
    encoder = model_folder("packaged:all-MiniLM-L6-v2")
    labels = sorted({row["label"] for _, row in train})
    place = {label: i for i, label in enumerate(labels)}
    rows = [Example(id=f"train/{number}", text=row["text"], label=row["teacher_label"]) for number, row in train]
    return Bank(
        rows=rows,
        gold=[Gold(id=f"train/{number}", label=row["label"]) for number, row in train],
        labels=labels,
        test_texts=[row["text"] for row in test],
        test_gold=np.array([place[row["label"]] for row in test]),
        embeddings=embed(encoder, [row.text for row in rows], max_length=128),
        test_embeddings=embed(encoder, [row["text"] for row in test], max_length=128),
    )


def per_label(bank: Bank, n: int, seed: int) -> list[Trusted]:
    """Return `n` gold rows of each label, as few-shot studies draw them."""
    rng, gold = np.random.default_rng(seed), bank.train_gold
    taken = [rng.choice(np.flatnonzero(gold == label), n, replace=False) for label in range(len(bank.labels))]
    return [Trusted(id=bank.rows[i].id, label=bank.gold[i].label, source="gold") for i in sorted(np.concatenate(taken))]


def figures(bank: Bank, trusted: Sequence[Trusted], seed: int) -> Figures:
    """Clean the teacher's labels with the trusted rows and train students on what comes out."""
    known = {row.id for row in trusted}
    cleaning = clean(
        bank.rows, [], bank.labels, CleanConfig(), embed=lambda _: bank.embeddings, seed=seed, trusted=trusted
    )
    wrong = bank.index([d.label for d in cleaning.decisions]) != bank.train_gold
    untrusted = np.array([row.id not in known for row in bank.rows])
    alone = np.flatnonzero(~untrusted)
    return Figures(
        method=str(cleaning.report["method"]),
        wrong=float(wrong.mean()),
        wrong_untrusted=float(wrong[untrusted].mean()),
        ranking=_ranking(bank, cleaning, untrusted),
        student=_student(bank, cleaning),
        gold_alone=_accuracy_of(bank, bank.embeddings[alone], np.eye(len(bank.labels))[bank.train_gold[alone]], 0.1),
    )


def _ranking(bank: Bank, cleaned: Cleaned, judged: np.ndarray) -> float:
    """Return the average precision with which rows are ranked by the doubt in the teacher's label."""
    given = bank.index([row.label for row in bank.rows])
    doubt = np.array([1 - d.probs[i] for d, i in zip(cleaned.decisions, given, strict=True)])
    return float(average_precision_score((given != bank.train_gold)[judged], doubt[judged]))


def _student(bank: Bank, cleaned: Cleaned) -> float:
    """Return test accuracy of softmax regression on frozen embeddings, trained as the encoder is on soft labels."""
    taken = training_rows(bank.rows, cleaned.decisions, [], bank.labels, SOFT)
    by_text = {row.text: i for i, row in enumerate(bank.rows)}
    features = bank.embeddings[[by_text[row.text] for row in taken]]
    return _accuracy_of(bank, features, np.array([row.target for row in taken]), PENALTY)


def _accuracy_of(bank: Bank, features: np.ndarray, targets: np.ndarray, penalty: float) -> float:
    log_probs = softmax_log_probs(fit_softmax(features, targets, penalty=penalty), bank.test_embeddings)
    return float((log_probs.argmax(axis=1) == bank.test_gold).mean())


def show(n_gold: int, drawn: str, draws: Sequence[Figures]) -> None:
    """Print the figures of some draws."""
    print(f"\n{n_gold} gold rows, {drawn}, {len(draws)} draws; method {sorted({draw.method for draw in draws})}")
    names = {
        "wrong": "wrong labels, all rows",
        "wrong_untrusted": "wrong labels, without the gold rows",
        "ranking": "average precision of the error ranking",
        "student": "test accuracy: regression on embeddings, repaired labels",
        "gold_alone": "test accuracy: the same on the gold rows alone",
    }
    for key, name in names.items():
        values = [getattr(draw, key) for draw in draws]
        print(f"  {name:<58} {np.mean(values):.4f}  {np.round(values, 4).tolist()}")


def references(bank: Bank) -> None:
    """Print students that learned other labels, ours and published."""
    print("\ntest accuracy of other students")
    given = bank.index([row.label for row in bank.rows])
    every = np.eye(len(bank.labels))
    for name, target in (("the teacher's labels alone", given), ("all gold", bank.train_gold)):
        print(f"  {'embeddings, ' + name:<58} {_accuracy_of(bank, bank.embeddings, every[target], PENALTY):.4f}")
        print(f"  {'TF-IDF, ' + name + ', this run':<58} {_tfidf(bank, target):.4f}")
    for n_gold in BARS:
        trusted = per_label(bank, n_gold // len(bank.labels), 0)
        cleaning = clean(
            bank.rows, [], bank.labels, CleanConfig(), embed=lambda _: bank.embeddings, seed=0, trusted=trusted
        )
        repaired = bank.index([d.label for d in cleaning.decisions])
        print(f"  {f'TF-IDF, repaired with {n_gold} gold rows, first draw, this run':<58} {_tfidf(bank, repaired):.4f}")
    for name, accuracy in PUBLISHED:
        print(f"  {name + ', recorded beside the data':<58} {accuracy:.3f}")


def _tfidf(bank: Bank, targets: np.ndarray) -> float:
    predicted = tfidf_predictions([row.text for row in bank.rows], targets, bank.test_texts)
    return float((predicted == bank.test_gold).mean())


if __name__ == "__main__":
    main()
