"""Training throughput: ours beside the plain `Trainer` with its defaults, on the same rows and machine.

Rows per second come from short trainings of both, interleaved; the accuracy from one whole
training each: `Trainer` as its defaults have it (batch 8, learning rate 5e-5, 3 epochs), ours as the
recipe's defaults have it. Both train the packaged MiniLM on the headlines data.
"""

import csv
import statistics
import sys
import tempfile
import time
from pathlib import Path

import datasets
import numpy as np
import torch
import transformers
from benchmark_data import headlines_folder
from targets import bar, finish

from hybrid.artifacts import fetch
from hybrid.config import TrainConfig
from hybrid.data.training_rows import TrainingRow
from hybrid.encoders.checkpoint import load_classifier, load_tokenizer
from hybrid.encoders.exporting import checkpoint_logits
from hybrid.encoders.training import train
from hybrid.runtime.text_encoder import TextLimits

MAX_LENGTH = 128
ROUNDS = 5
ROWS_A_ROUND = 640
LEAST_ACCURACY_DIFFERENCE = -0.005
"""What counts as the same accuracy: not more than half a point lower."""
Rows = list[tuple[str, str]]


def main() -> None:
    folder = headlines_folder(sys.argv[1:])
    if folder is None:
        return
    fitting, test = read(folder / "train.csv"), read(folder / "test.csv")
    labels = sorted({label for _, label in fitting})
    encoder = fetch("all-MiniLM-L6-v2")
    ratios = []
    print("round  Trainer rows/s  ours rows/s  ratio")
    for number in range(ROUNDS):
        some = fitting[number * ROWS_A_ROUND : (number + 1) * ROWS_A_ROUND]
        plain, ours = plain_trainer(encoder, some, labels, epochs=1)[1], our_train(encoder, some, labels, epochs=1)[1]
        ratios.append(ours / plain)
        print(f"{number:>5}  {plain:>14.1f}  {ours:>11.1f}  {ratios[-1]:>5.2f}")
    of_plain = accuracy(plain_trainer(encoder, fitting, labels, epochs=3)[0], test, labels)
    of_ours = accuracy(our_train(encoder, fitting, labels, epochs=TrainConfig().epochs)[0], test, labels)
    print(f"test accuracy on {len(test)} rows: Trainer defaults {of_plain:.4f}, ours {of_ours:.4f}")
    ratio = statistics.median(ratios)
    bar("train_speed_ratio_median", round(ratio, 3), ">= 1.5", ratio >= 1.5)
    difference = of_ours - of_plain
    wanted = f">= {LEAST_ACCURACY_DIFFERENCE}"
    bar("train_accuracy_difference", round(difference, 4), wanted, difference >= LEAST_ACCURACY_DIFFERENCE)
    finish()


def read(path: Path) -> Rows:
    with path.open(newline="", encoding="utf-8") as file:
        return [(row["text"], row["label"]) for row in csv.DictReader(file)]


def plain_trainer(encoder: Path, rows: Rows, labels: list[str], *, epochs: int) -> tuple[object, float]:
    """Return the trained model and rows per second of `Trainer` with nothing set but the epochs."""
    transformers.set_seed(0)
    tokenizer, model = load_tokenizer(encoder), load_classifier(encoder, labels)
    encoded = dict(tokenizer([text for text, _ in rows], truncation=True, max_length=MAX_LENGTH))
    encoded["labels"] = [labels.index(label) for _, label in rows]
    with tempfile.TemporaryDirectory() as scratch:
        arguments = transformers.TrainingArguments(
            scratch, num_train_epochs=epochs, save_strategy="no", disable_tqdm=True, report_to=[]
        )
        dataset = datasets.Dataset.from_dict(encoded)
        trainer = transformers.Trainer(model, arguments, train_dataset=dataset, processing_class=tokenizer)
        trainer.remove_callback(transformers.PrinterCallback)
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
    return model, epochs * len(rows) / seconds


def our_train(encoder: Path, rows: Rows, labels: list[str], *, epochs: int) -> tuple[object, float]:
    """Return the trained model and rows per second of our stage, its validation and checkpoints included."""
    eye = np.eye(len(labels))
    training = [
        TrainingRow(text=text, label=labels.index(label), target=tuple(eye[labels.index(label)]), weight=1.0)
        for text, label in rows
    ]
    fitted = round(len(rows) * (1 - TrainConfig().validation))
    with tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter()
        trained = train(
            training,
            labels,
            TrainConfig(epochs=epochs),
            encoder=encoder,
            reading=TextLimits(max_length=MAX_LENGTH),
            workdir=Path(scratch),
            seed=0,
        )
        seconds = time.perf_counter() - start
        return load_classifier(trained.checkpoint, labels).eval(), len(trained.history) * fitted / seconds


def accuracy(model: torch.nn.Module, rows: Rows, labels: list[str]) -> float:
    tokenizer = load_tokenizer(fetch("all-MiniLM-L6-v2"))
    logits = checkpoint_logits(model.eval(), tokenizer, [text for text, _ in rows], TextLimits(max_length=MAX_LENGTH))
    return float((logits.argmax(axis=1) == [labels.index(label) for _, label in rows]).mean())


if __name__ == "__main__":
    main()
