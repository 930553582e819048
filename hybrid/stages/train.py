"""train: fine-tune the encoder on the rows that cleaning left."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import msgspec
import numpy as np
import torch
import transformers
from sklearn.model_selection import train_test_split

from hybrid.config import TrainConfig
from hybrid.encoders.batches import Collator, LengthGroupedSampler
from hybrid.encoders.checkpoint import load_classifier, load_tokenizer, write_tokenizer
from hybrid.encoders.loss import classification_loss
from hybrid.encoders.precision import choose_precision
from hybrid.errors import DataError
from hybrid.metrics import macro_f1
from hybrid.types import Decision, Draft, Epoch, Example

EVALUATION_BATCH = 64
OnStep = Callable[[int, int], None]


class TrainingRow(msgspec.Struct, frozen=True, kw_only=True):
    """What the loss sees of one row: text, target probabilities [k], weight."""

    text: str
    label: int
    target: tuple[float, ...]
    weight: float
    synthetic: bool = False


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """The folder with weights and tokenizer, the learning curve, and the counts."""

    checkpoint: Path
    history: list[Epoch]
    report: dict[str, object]


def training_rows(
    rows: Sequence[Example],
    decisions: Sequence[Decision],
    drafts: Sequence[Draft],
    labels: Sequence[str],
    config: TrainConfig,
) -> list[TrainingRow]:
    """Return the rows to train on: the decided labels (or the given ones) and then the accepted drafts."""
    if config.labels == "given":
        real = [_training_row(row.text, labels.index(row.label), None, 1.0, len(labels), config) for row in rows]
    else:
        by_id = {decision.id: decision for decision in decisions}
        decided = [(row, by_id[row.id]) for row in rows]
        real = [
            _training_row(row.text, labels.index(d.label), d.probs, d.weight, len(labels), config)
            for row, d in decided
            if d.weight > 0
        ]
    accepted = [draft for draft in drafts if draft.status == "accepted"]
    written = [_training_row(d.text, labels.index(d.label), None, 1.0, len(labels), config) for d in accepted]
    return real + [msgspec.structs.replace(row, synthetic=True) for row in written]


def _training_row(
    text: str, label: int, probs: Sequence[float] | None, weight: float, n_labels: int, config: TrainConfig
) -> TrainingRow:
    hard = np.eye(n_labels)[label]
    target = hard if probs is None else (1 - config.soft_labels) * hard + config.soft_labels * np.asarray(probs)
    target = (1 - config.label_smoothing) * target + config.label_smoothing / n_labels
    return TrainingRow(
        text=text, label=label, target=tuple(map(float, target)), weight=weight if config.row_weights else 1.0
    )


def train(
    rows: Sequence[TrainingRow],
    labels: Sequence[str],
    config: TrainConfig,
    *,
    encoder: Path,
    max_length: int,
    workdir: Path,
    seed: int,
    on_step: OnStep | None = None,
) -> Trained:
    """Return the checkpoint of the epoch that a part of the real rows speaks for.

    That is the last one whose macro-F1 is within one standard error of the best (Breiman et al. 1984): on
    few rows the best score is often luck, and a learning rate that falls to zero favours the later epoch.
    Training stops early after `patience` epochs that are worse by more than that.

    `workdir` keeps checkpoints while training runs; a run that was killed goes on from the last
    whole one there, and the report says at which step.

    Raises:
        DataError: fewer than two classes are left to train on.
    """
    if len({row.label for row in rows}) < 2:
        raise DataError("train: one class only is left after cleaning; want two or more: look at the clean report")
    fitting, validation = _hold_out(rows, config, seed)
    tokenizer = load_tokenizer(encoder)
    transformers.set_seed(seed)
    model = load_classifier(encoder, labels)
    weights = class_weights(fitting, len(labels), config)
    sets = [_encode(part, tokenizer, max_length, weights) for part in (fitting, validation)]
    precision, seconds = _precision(model, sets[0], tokenizer, config, workdir)
    trainer = _Trainer(
        model=model,
        args=_arguments(config, workdir, seed, bf16=precision == "bf16"),
        train_dataset=sets[0],
        eval_dataset=sets[1],
        data_collator=Collator(tokenizer),
        compute_metrics=lambda found: _validation_score(found, len(labels)),
        callbacks=[_StopEarly(config.patience, len(validation)), _OnStep(on_step)],
    )
    trainer.remove_callback(transformers.PrinterCallback)
    trainer.focal_gamma = config.focal_gamma if config.loss == "focal" else 0.0
    resume = _last_whole_checkpoint(workdir)
    transformers.set_seed(seed)
    done = trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    history = _history(trainer.state, len(validation))
    best_step = next(entry["step"] for entry, epoch in zip(_scored(trainer.state), history, strict=True) if epoch.best)
    checkpoint = workdir / "best"
    load_classifier(workdir / f"checkpoint-{best_step}", labels).save_pretrained(checkpoint)
    tokenizer.save_pretrained(checkpoint)
    write_tokenizer(tokenizer, checkpoint / "tokenizer.json", max_length)
    return Trained(
        checkpoint=checkpoint,
        history=history,
        report={
            "rows": {"fitted": len(fitting), "validation": len(validation)},
            "synthetic": sum(row.synthetic for row in fitting),
            "classes": {label: Counter(row.label for row in rows)[i] for i, label in enumerate(labels)},
            "best_epoch": next((epoch.epoch for epoch in history if epoch.best), None),
            "steps": trainer.state.global_step,
            "precision": precision,
            "seconds_a_step_in_trial": seconds,
            "resumed_from_step": int(resume.name.rsplit("-", 1)[1]) if resume else None,
            "rows_per_second": None if resume else round(done.metrics["train_samples_per_second"], 1),
        },
    )


def _hold_out(
    rows: Sequence[TrainingRow], config: TrainConfig, seed: int
) -> tuple[list[TrainingRow], list[TrainingRow]]:
    """Return rows to fit on and real rows to choose the epoch on, stratified where the classes allow it."""
    real = [row for row in rows if not row.synthetic]
    classes = [row.label for row in real]
    n_validation = max(round(config.validation * len(real)), len(set(classes)))
    stratify = classes if min(Counter(classes).values()) > 1 else None
    fitting, validation = train_test_split(real, test_size=n_validation, stratify=stratify, random_state=seed)
    return fitting + [row for row in rows if row.synthetic], validation


def class_weights(rows: Sequence[TrainingRow], n_labels: int, config: TrainConfig) -> np.ndarray:
    """Return a weight a class, shape [k], so that the mean over the rows is 1."""
    counts = np.bincount([row.label for row in rows], minlength=n_labels)
    power = {"none": 0.0, "sqrt": 0.5, "balanced": 1.0}[config.class_weights]
    weights = np.maximum(counts, 1) ** -power
    return np.asarray(weights * counts.sum() / (weights * counts).sum())


def _encode(
    rows: Sequence[TrainingRow], tokenizer: Any, max_length: int, class_weights: np.ndarray
) -> datasets.Dataset:
    encoded = dict(tokenizer([row.text for row in rows], truncation=True, max_length=max_length))
    encoded["targets"] = [row.target for row in rows]
    encoded["weights"] = [row.weight * float(class_weights[row.label]) for row in rows]
    encoded["length"] = [len(ids) for ids in encoded["input_ids"]]
    return datasets.Dataset.from_dict(encoded)


def _precision(
    model: Any, rows: datasets.Dataset, tokenizer: Any, config: TrainConfig, workdir: Path
) -> tuple[str, dict[str, float]]:
    """Return the precision and the trial's times; a resumed run keeps the choice of the run it goes on with."""
    if config.precision != "auto":
        return config.precision, {}
    chosen = workdir / "precision.json"
    if chosen.exists():
        precision, seconds = json.loads(chosen.read_text())
        return precision, seconds
    batch = Collator(tokenizer)([rows[i] for i in range(min(config.batch_size, len(rows)))])
    found = choose_precision(model, batch, lambda trial, inputs: _loss(trial, inputs, 0.0)[0])
    workdir.mkdir(parents=True, exist_ok=True)
    chosen.write_text(json.dumps(found))
    return found


def _arguments(config: TrainConfig, workdir: Path, seed: int, *, bf16: bool) -> transformers.TrainingArguments:
    strategy = "steps" if config.checkpoint_steps else "epoch"
    every = config.checkpoint_steps or 1
    return transformers.TrainingArguments(
        output_dir=str(workdir),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=EVALUATION_BATCH,
        learning_rate=config.learning_rate,
        warmup_steps=min(config.warmup, 0.999),
        weight_decay=config.weight_decay,
        bf16=bf16,
        save_total_limit=config.patience + 2,  # the chosen epoch is never older than that
        save_strategy=strategy,
        save_steps=every,
        eval_strategy=strategy,
        eval_steps=every,
        logging_strategy=strategy,
        logging_steps=every,
        label_names=["targets"],
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=True,
        report_to=[],
        seed=seed,
        data_seed=seed,
    )


class _Trainer(transformers.Trainer):  # type: ignore[misc]
    """The Trainer with our loss and our batches."""

    focal_gamma = 0.0

    def compute_loss(
        self, model: Any, inputs: Mapping[str, torch.Tensor], return_outputs: bool = False, **_: object
    ) -> Any:
        loss, outputs = _loss(model, inputs, self.focal_gamma)
        return (loss, outputs) if return_outputs else loss

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthGroupedSampler:
        rows = self.train_dataset if train_dataset is None else train_dataset
        return LengthGroupedSampler(rows["length"], self.args.train_batch_size, self.args.seed)


def _loss(model: Any, inputs: Mapping[str, torch.Tensor], focal_gamma: float) -> tuple[torch.Tensor, Any]:
    features = {name: tensor for name, tensor in inputs.items() if name not in ("targets", "weights")}
    outputs = model(**features)
    loss = classification_loss(outputs.logits, inputs["targets"], inputs["weights"], focal_gamma=focal_gamma)
    return loss, outputs


class _StopEarly(transformers.TrainerCallback):  # type: ignore[misc]
    """Stop after `patience` evaluations in a row that are worse than the best by more than a standard error."""

    def __init__(self, patience: int, n_rows: int) -> None:
        self._patience = patience
        self._n_rows = n_rows

    def on_evaluate(self, _args: Any, state: Any, control: Any, **_: object) -> None:
        scores = [entry["eval_macro_f1"] for entry in _scored(state)]
        if len(scores) - 1 - last_within_one_error(scores, self._n_rows) >= self._patience:
            control.should_training_stop = True


def last_within_one_error(scores: Sequence[float], n_rows: int) -> int:
    """Return the index of the last score that is within one standard error of the best.

    The error is the binomial one of a share of `n_rows`; for macro-F1 that is an approximation.
    """
    best = max(scores)
    error = (best * (1 - best) / n_rows) ** 0.5
    return max(i for i, score in enumerate(scores) if score >= best - error)


class _OnStep(transformers.TrainerCallback):  # type: ignore[misc]
    """Tell the pipeline how far training is."""

    def __init__(self, on_step: OnStep | None) -> None:
        self._on_step = on_step

    def on_step_end(self, _args: Any, state: Any, _control: Any, **_: object) -> None:
        if self._on_step:
            self._on_step(state.global_step, state.max_steps)


def _validation_score(found: Any, n_labels: int) -> dict[str, float]:
    gold = np.asarray(found.label_ids).argmax(-1)
    return {"macro_f1": macro_f1(gold, np.asarray(found.predictions).argmax(-1), n_labels)}


def _last_whole_checkpoint(workdir: Path) -> Path | None:
    """Return the newest checkpoint that was written to its end, and delete those that were not."""
    found = sorted(workdir.glob("checkpoint-*"), key=lambda path: int(path.name.rsplit("-", 1)[1]))
    whole = []
    for path in found:
        try:
            json.loads((path / "trainer_state.json").read_text())  # the Trainer writes it last
            whole.append(path)
        except (OSError, ValueError):
            shutil.rmtree(path)
    return whole[-1] if whole else None


def _scored(state: Any) -> list[dict[str, float]]:
    return [entry for entry in state.log_history if "eval_macro_f1" in entry]


def _history(state: Any, n_validation: int) -> list[Epoch]:
    """Return the learning curve from the Trainer's log, the chosen epoch marked."""
    losses = {entry["step"]: entry["loss"] for entry in state.log_history if "loss" in entry}
    scored = _scored(state)
    chosen = last_within_one_error([entry["eval_macro_f1"] for entry in scored], n_validation)
    return [
        Epoch(
            epoch=round(float(entry["epoch"]), 3),
            train_loss=round(float(losses[entry["step"]]), 6),
            validation_loss=round(float(entry["eval_loss"]), 6),
            validation_macro_f1=round(float(entry["eval_macro_f1"]), 6),
            best=i == chosen,
        )
        for i, entry in enumerate(scored)
    ]
