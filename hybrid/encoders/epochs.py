"""Chooses the epoch to keep from the learning curve, and stops training early."""

from collections.abc import Mapping, Sequence
from typing import Any

import transformers

from hybrid.types import Epoch


class StopEarly(transformers.TrainerCallback):  # type: ignore[misc]
    """Stops training after `patience` evaluations in a row that are worse than the best by more than a standard error."""

    def __init__(self, patience: int) -> None:
        self._patience = patience

    def on_evaluate(self, _args: Any, state: Any, control: Any, **_: object) -> None:
        """Set the Trainer's flag that stops training."""
        evaluations = _evaluations(state)
        if len(evaluations) - 1 - _chosen_index(evaluations) >= self._patience:
            control.should_training_stop = True


def last_within_one_error(scores: Sequence[float], errors: Sequence[float]) -> int:
    """Find the last score within one standard error of the best score, and return its index."""
    best = max(range(len(scores)), key=scores.__getitem__)
    return max(i for i, score in enumerate(scores) if score >= scores[best] - errors[best])


def learning_curve(state: Any) -> list[Epoch]:
    """Read the learning curve from the Trainer's state, with the chosen epoch marked."""
    losses = {entry["step"]: entry["loss"] for entry in state.log_history if "loss" in entry}
    evaluations = _evaluations(state)
    chosen = _chosen_index(evaluations)
    return [
        Epoch(
            epoch=round(float(entry["epoch"]), 3),
            train_loss=round(float(losses[entry["step"]]), 6),
            validation_loss=round(float(entry["eval_loss"]), 6),
            validation_macro_f1=round(float(entry["eval_macro_f1"]), 6),
            best=i == chosen,
        )
        for i, entry in enumerate(evaluations)
    ]


def chosen_step(state: Any) -> int:
    """Find the optimizer step of the chosen epoch."""
    evaluations = _evaluations(state)
    return int(evaluations[_chosen_index(evaluations)]["step"])


def _chosen_index(evaluations: Sequence[Mapping[str, float]]) -> int:
    return last_within_one_error(
        [entry["eval_macro_f1"] for entry in evaluations], [entry["eval_macro_f1_error"] for entry in evaluations]
    )


def _evaluations(state: Any) -> list[dict[str, float]]:
    return [entry for entry in state.log_history if "eval_macro_f1" in entry]
