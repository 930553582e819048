"""The stage train: fine-tunes the encoder on the rows that cleaning kept."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import msgspec
import numpy as np
import torch
import transformers

from hybrid.calibration.label_calibrators import best_cutoffs
from hybrid.config import TrainConfig
from hybrid.data.quotes import merged
from hybrid.data.training_rows import TrainingRow, class_weights, hold_out, label_counts
from hybrid.encoders.batches import Collator, Windows, read_windows
from hybrid.encoders.checkpoint import load_classifier, load_tokenizer, write_tokenizer
from hybrid.encoders.device import PrecisionChoice, choose_precision, read_choice
from hybrid.encoders.epochs import StopEarly, chosen_step, learning_curve
from hybrid.encoders.evidence import add_head, token_targets
from hybrid.encoders.exporting import checkpoint_words
from hybrid.encoders.loss import classification_loss, init_bias_from_label_frequency, label_loss
from hybrid.encoders.memory import check_memory
from hybrid.encoders.trainer import (
    ClassifierTrainer,
    Loss,
    OnStep,
    ProgressCallback,
    last_whole_checkpoint,
    loss_of_batch,
    training_arguments,
)
from hybrid.errors import DataError
from hybrid.evaluation.quoted_words import word_scores
from hybrid.evaluation.set_metrics import macro_f1_error, macro_f1_of_sets
from hybrid.runtime.calibration import sigmoid
from hybrid.runtime.text_encoder import TextLimits, pool
from hybrid.types import Epoch, Task


class TrainingSetup(msgspec.Struct, frozen=True, kw_only=True):
    """What the Trainer gets: a model with a fresh head, its tokenizer, the loss, and the two encoded parts."""

    model: Any
    tokenizer: Any
    loss: Loss
    fitting: datasets.Dataset
    validation: datasets.Dataset
    reading: TextLimits
    validation_windows: tuple[int, ...]
    """The number of windows of each validation text. They are pooled before scoring, as in serving."""


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """The folder with weights and tokenizer, the learning curve, and the figures of the stage's report."""

    checkpoint: Path
    history: list[Epoch]
    report: dict[str, object]


def train(
    rows: Sequence[TrainingRow],
    labels: Sequence[str],
    config: TrainConfig,
    *,
    encoder: Path,
    reading: TextLimits,
    workdir: Path,
    seed: int,
    on_step: OnStep | None = None,
    task: Task = "single_label",
) -> Trained:
    """Fine-tune the encoder, and keep the epoch that a held-out part of the real rows chooses.

    That is the last epoch whose macro-F1 is within one standard error of the best (Breiman et al. 1984): on
    few rows the best score is often luck, and a learning rate that falls to zero favours the later epoch.
    Training stops early after `patience` epochs that are worse by more than that. Rows with several labels are scored
    at the cutoffs that suit the held-out rows best, because the cutoffs that serve are chosen after export.

    `workdir` keeps checkpoints while training runs. A run that was killed continues from the last
    complete one there, and the report holds the step it continued from.

    Raises:
        DataError: fewer than two classes are left to train on, or no label at all where rows have several; or the recipe
            asks for the evidence head, and no reason quotes its text.
        ConfigError: the machine has not enough memory for this encoder and these batches.
    """
    counts = _checked_counts(rows, len(labels), task)
    _check_quotes(rows, config)
    fitting, validation = hold_out(rows, config, seed)
    setup = training_setup(fitting, validation, labels, config, encoder=encoder, reading=reading, seed=seed, task=task)
    check_memory(setup.model, config, tokens=max(setup.fitting["length"]))
    choice = _precision_choice(setup, config, workdir)
    trainer = _trainer(setup, len(labels), config, workdir, seed, bf16=choice.precision == "bf16", task=task)
    trainer.add_callback(ProgressCallback(on_step))
    resume = last_whole_checkpoint(workdir)
    transformers.set_seed(seed)
    output = trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    history = learning_curve(trainer.state)
    chosen = workdir / f"checkpoint-{chosen_step(trainer.state)}"
    report = {
        "rows": {"fitted": len(fitting), "validation": len(validation)},
        "synthetic": sum(row.synthetic for row in fitting),
        "classes": dict(zip(labels, counts.tolist(), strict=True)),
        "precision": choice.precision,
        "precision_reason": choice.reason,
        "precision_error": choice.error,
        "seconds_a_step_in_trial": choice.seconds,
    }
    checkpoint = _write_checkpoint(chosen, workdir / "best", setup.tokenizer, labels, reading)
    if config.evidence_weight:
        report["evidence"] = _evidence_figures(checkpoint, fitting, validation, labels, reading)
    return Trained(checkpoint=checkpoint, history=history, report=report | _training_figures(history, output, resume))


def _checked_counts(rows: Sequence[TrainingRow], n_labels: int, task: Task) -> np.ndarray:
    """Count the rows with each label [k], and check that enough labels are left to learn from."""
    counts = label_counts(rows, n_labels, task)
    if np.count_nonzero(counts) < (2 if task == "single_label" else 1):
        left = "only one class is left after cleaning; expected two or more"
        if task == "multi_label":
            left = "no label is left after cleaning; expected at least one"
        raise DataError(f"train: {left}; see the report of clean")
    return counts


def _check_quotes(rows: Sequence[TrainingRow], config: TrainConfig) -> None:
    if config.evidence_weight and not any(row.quotes for row in rows):
        raise DataError(
            f"train.evidence = {config.evidence_weight:g}: no reason of the teacher quotes the text of a training row; let "
            'a teacher give its reasons (verify.answer = "reasoned"), or leave train.evidence out'
        )


def _training_figures(history: Sequence[Epoch], output: Any, resume: Path | None) -> dict[str, object]:
    """Collect the chosen epoch, the steps and the speed; `resume` is the checkpoint from which the Trainer continued."""
    return {
        "best_epoch": next((epoch.epoch for epoch in history if epoch.best), None),
        "steps": output.global_step,
        "resumed_from_step": int(resume.name.rsplit("-", 1)[1]) if resume else None,
        "rows_per_second": None if resume else round(output.metrics["train_samples_per_second"], 1),
    }


def _evidence_figures(
    checkpoint: Path,
    fitting: Sequence[TrainingRow],
    validation: Sequence[TrainingRow],
    labels: Sequence[str],
    reading: TextLimits,
) -> dict[str, object]:
    """Judge the evidence head by the quotes of the validation rows, of which it learned nothing."""
    model, tokenizer = load_classifier(checkpoint, labels).eval(), load_tokenizer(checkpoint)
    words = checkpoint_words(model, tokenizer, [row.text for row in validation], reading)
    scores = word_scores(words, [merged(span for spans in row.quotes for span in spans) for row in validation])
    figures = msgspec.to_builtins(scores) if scores else {"texts": 0}
    return {"rows_with_quotes": sum(bool(row.quotes) for row in fitting), **figures}


def training_setup(
    fitting: Sequence[TrainingRow],
    validation: Sequence[TrainingRow],
    labels: Sequence[str],
    config: TrainConfig,
    *,
    encoder: Path,
    reading: TextLimits,
    seed: int,
    task: Task,
) -> TrainingSetup:
    tokenizer = load_tokenizer(encoder)
    transformers.set_seed(seed)
    model = load_classifier(encoder, labels)
    if config.gradient_checkpointing:
        # transformers renames it: the old name warns, and the new one is not in every version that we take.
        getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    weights = class_weights(fitting, len(labels), config, task=task)
    gamma = config.focal_gamma if config.loss == "focal" else 0.0
    loss: Loss = partial(classification_loss, focal_gamma=gamma)
    row_weights = weights
    if task == "multi_label":
        init_bias_from_label_frequency(model, label_counts(fitting, len(labels), task), len(fitting))
        positive = torch.tensor(weights, dtype=torch.float32)
        loss, row_weights = partial(label_loss, positive_weights=positive, focal_gamma=gamma), np.ones(len(labels))
    learns_evidence = config.evidence_weight > 0
    if learns_evidence:
        add_head(model)
    windows = [
        read_windows(tokenizer, [row.text for row in part], reading, offsets=learns_evidence)
        for part in (fitting, validation)
    ]
    return TrainingSetup(
        model=model,
        tokenizer=tokenizer,
        loss=loss,
        fitting=_encode(fitting, windows[0], row_weights),
        validation=_encode(validation, windows[1], row_weights),
        reading=reading,
        validation_windows=windows[1].counts,
    )


def _encode(rows: Sequence[TrainingRow], windows: Windows, class_weights: np.ndarray) -> datasets.Dataset:
    """Build a data set with a row for each window; the weights of a text's windows add up to the text's weight."""
    weights = windows.each([row.weight * float(class_weights[row.label]) for row in rows])
    encoded: dict[str, Any] = dict(windows.columns)
    encoded["targets"] = windows.each([np.asarray(row.target, dtype=np.float32) for row in rows])
    encoded["weights"] = [weight * share for weight, share in zip(weights, windows.shares, strict=True)]
    encoded["length"] = [len(ids) for ids in encoded["input_ids"]]
    if windows.offsets:
        encoded["evidence"], encoded["evidence_weights"] = token_targets(windows, [row.quotes for row in rows])
    return datasets.Dataset.from_dict(encoded)


def _precision_choice(setup: TrainingSetup, config: TrainConfig, workdir: Path) -> PrecisionChoice:
    """Choose the precision to train in. A resumed run keeps the choice of the run that it continues."""
    if config.precision != "auto":
        return PrecisionChoice(precision=config.precision, reason="set_by_recipe")
    path = workdir / "precision.json"
    if path.exists():
        return read_choice(path.read_bytes())
    rows = setup.fitting
    batch = Collator(setup.tokenizer)(
        [rows[i] for i in range(min(config.batch_size // config.accumulation_steps, len(rows)))]
    )
    choice = choose_precision(
        setup.model,
        batch,
        lambda model, inputs: loss_of_batch(model, inputs, setup.loss, evidence=config.evidence_weight)[0],
    )
    workdir.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgspec.json.encode(choice))
    return choice


def _trainer(
    setup: TrainingSetup, n_labels: int, config: TrainConfig, workdir: Path, seed: int, *, bf16: bool, task: Task
) -> ClassifierTrainer:
    trainer = ClassifierTrainer(
        loss=setup.loss,
        evidence=config.evidence_weight,
        model=setup.model,
        args=training_arguments(config, workdir, seed, bf16=bf16),
        train_dataset=setup.fitting,
        eval_dataset=setup.validation,
        data_collator=Collator(setup.tokenizer),
        compute_metrics=partial(_validation_score, setup=setup, n_labels=n_labels, task=task),
        callbacks=[StopEarly(config.patience)],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def _validation_score(scored: Any, *, setup: TrainingSetup, n_labels: int, task: Task) -> dict[str, float]:
    counts = setup.validation_windows
    first = np.cumsum([0, *counts[:-1]])  # the windows of a text all carry its target
    targets, logits = np.asarray(scored.label_ids)[first], pool(np.asarray(scored.predictions), counts, setup.reading)
    if task == "multi_label":
        # With cutoffs of 0.5, labels not learned yet would score 0, and the choice among early epochs would be luck.
        gold, probs = targets > 0.5, sigmoid(logits)
        chosen = probs >= best_cutoffs(probs, gold)
    else:
        every = np.arange(n_labels)
        gold, chosen = (table.argmax(-1)[:, None] == every for table in (targets, logits))
    return {"macro_f1": macro_f1_of_sets(gold, chosen), "macro_f1_error": macro_f1_error(gold, chosen)}


def _write_checkpoint(chosen: Path, folder: Path, tokenizer: Any, labels: Sequence[str], reading: TextLimits) -> Path:
    """Write model and tokenizer of the chosen epoch to `folder` and return it."""
    load_classifier(chosen, labels).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_tokenizer(tokenizer, folder / "tokenizer.json", reading)
    return folder
