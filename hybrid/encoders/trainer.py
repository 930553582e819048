"""transformers' Trainer with our loss, our batches and our settings."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from hybrid.config import TrainConfig
from hybrid.encoders.batches import LengthGroupedSampler
from hybrid.encoders.device import training_device
from hybrid.encoders.evidence import evidence_logits, evidence_loss

EVALUATION_BATCH = 64
OnStep = Callable[[int, int], None]
Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""The loss of logits [n, k], target probabilities [n, k] and row weights [n]."""


class ClassifierTrainer(transformers.Trainer):  # type: ignore[misc]
    """The Trainer with our loss and our batches."""

    def __init__(self, *, loss: Loss, evidence: float = 0.0, **settings: Any) -> None:
        """`evidence` weighs the loss of the evidence head; `settings` are the arguments of transformers' Trainer."""
        super().__init__(**settings)
        self._loss = loss
        self._evidence = evidence

    def compute_loss(
        self, model: Any, inputs: Mapping[str, torch.Tensor], return_outputs: bool = False, **_: object
    ) -> Any:
        """Compute the loss of a batch; with `return_outputs` return the logits of the labels too."""
        loss, outputs = loss_of_batch(model, inputs, self._loss, evidence=self._evidence)
        return (loss, {"logits": outputs.logits}) if return_outputs else loss

    def _get_train_sampler(self, train_dataset: Any = None) -> LengthGroupedSampler:
        rows = self.train_dataset if train_dataset is None else train_dataset
        batch_size = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return LengthGroupedSampler(rows["length"], batch_size, self.args.seed)


NOT_FEATURES = ("targets", "weights", "evidence", "evidence_weights")
"""What a batch has beside the inputs of the model."""


def loss_of_batch(
    model: Any, inputs: Mapping[str, torch.Tensor], loss: Loss, *, evidence: float = 0.0
) -> tuple[torch.Tensor, Any]:
    """Compute the loss of a batch of the `Collator`; return it with the model's outputs.

    The loss of the evidence head is added `evidence` times, where the batch has targets for it.
    """
    features = {name: tensor for name, tensor in inputs.items() if name not in NOT_FEATURES}
    if not evidence:
        outputs = model(**features)
        return loss(outputs.logits, inputs["targets"], inputs["weights"]), outputs
    outputs = model(**features, output_hidden_states=True)
    of_labels = loss(outputs.logits, inputs["targets"], inputs["weights"])
    of_tokens = evidence_loss(
        evidence_logits(model, outputs.hidden_states), inputs["evidence"], inputs["evidence_weights"]
    )
    return of_labels + evidence * of_tokens, outputs


class ProgressCallback(transformers.TrainerCallback):  # type: ignore[misc]
    """Reports the progress of training."""

    def __init__(self, on_step: OnStep | None) -> None:
        """`on_step` gets the number of finished steps and of all steps."""
        self._on_step = on_step

    def on_step_end(self, _args: Any, state: Any, _control: Any, **_: object) -> None:
        """Report a finished step."""
        if self._on_step:
            self._on_step(state.global_step, state.max_steps)


def training_arguments(config: TrainConfig, workdir: Path, seed: int, *, bf16: bool) -> transformers.TrainingArguments:
    """Translate the recipe's settings into the Trainer's; checkpoints go to `workdir`."""
    strategy = "steps" if config.checkpoint_steps else "epoch"
    every = config.checkpoint_steps or 1
    device = training_device()
    return transformers.TrainingArguments(
        output_dir=str(workdir),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size // config.accumulation_steps,
        gradient_accumulation_steps=config.accumulation_steps,
        per_device_eval_batch_size=EVALUATION_BATCH,
        learning_rate=config.learning_rate,
        warmup_steps=min(config.warmup, 0.999),
        weight_decay=config.weight_decay,
        bf16=bf16,
        use_cpu=device == "cpu",  # else the Trainer refuses bf16 on a CPU
        save_total_limit=config.patience + 2,  # the chosen epoch is never older than that
        save_strategy=strategy,
        save_steps=every,
        eval_strategy=strategy,
        eval_steps=every,
        logging_strategy=strategy,
        logging_steps=every,
        label_names=["targets"],
        remove_unused_columns=False,
        dataloader_pin_memory=device == "cuda",
        disable_tqdm=True,
        report_to=[],
        seed=seed,
        data_seed=seed,
    )


def last_whole_checkpoint(workdir: Path) -> Path | None:
    """Find the newest complete checkpoint, and delete incomplete ones."""
    checkpoints = sorted(workdir.glob("checkpoint-*"), key=lambda path: int(path.name.rsplit("-", 1)[1]))
    whole = []
    for path in checkpoints:
        try:
            json.loads((path / "trainer_state.json").read_text())  # the Trainer writes it last
            whole.append(path)
        except (OSError, ValueError):
            shutil.rmtree(path)
    return whole[-1] if whole else None
