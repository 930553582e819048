"""The precision that training would choose here, and how long the sentiment recipe would take."""

import math
import time
from typing import TYPE_CHECKING, Any

import msgspec

from hybrid.config import Recipe
from hybrid.doctor.check import Check
from hybrid.machine.threads import usable_threads
from hybrid.recipe_files.find import find_recipe
from hybrid.recipe_files.read import read_recipe

if TYPE_CHECKING:
    from hybrid.encoders.device import PrecisionChoice

RECIPE = "sentiment"
TOKENS = 32
"""Tokens of a text in the trial's batch; a tweet has 20 on average, and batches are padded."""
SHARE_OF_TRAINING = 0.7
"""The part of the recipe's time that training takes: 0.58 to 0.75 in six runs on two processors, by `seconds` in their
`summary.json`. Embedding, the trials of precisions and evaluation are most of the rest."""
ROUNDS = 3
PATIENCE_S = 15 * 60
"""Seconds above which the recipe counts as slow."""


def training_checks() -> list[Check]:
    """Train a few steps of an encoder of the packaged one's size, with random weights: nothing is downloaded."""
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        return [
            Check(
                name="training",
                fact=f"{error.name} is not installed",
                verdict="unknown",
                because="bundles can be used here, and not made",
                remedy="pip install 'hybrid-cascade[train]'",
            )
        ]
    recipe = read_recipe(find_recipe(RECIPE), profile="", overrides={})
    model, batch = trial_inputs(recipe)
    choice = trial_precision(model, batch)
    step = timed_step(model, batch, bf16=choice.precision == "bf16")
    return [precision_check(choice), recipe_check(recipe, step)]


def trial_inputs(recipe: Recipe) -> tuple[Any, dict[str, Any]]:
    """An encoder of all-MiniLM-L6's size with random weights, and a batch as the recipe trains on."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        num_labels=max(2, len(recipe.labels)),
    )
    shape = (recipe.train.batch_size, TOKENS)
    draw = torch.Generator().manual_seed(0)
    batch = {
        "input_ids": torch.randint(config.vocab_size, shape, generator=draw),
        "attention_mask": torch.ones(shape, dtype=torch.long),
        "labels": torch.randint(config.num_labels, shape[:1], generator=draw),
    }
    return BertForSequenceClassification(config).train(), batch


def trial_precision(model: Any, batch: dict[str, Any]) -> "PrecisionChoice":
    """What the stage train would choose for `precision = "auto"`."""
    from hybrid.encoders.device import choose_precision

    return choose_precision(model, batch, lambda model, inputs: model(**inputs).loss)


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """How long a training step takes, in seconds."""

    clock_s: float
    """By the clock, with all that the machine does beside it."""
    alone_s: float
    """As if nothing else ran: the processor time, divided by the threads. On an accelerator, the same as by the clock."""

    @property
    def is_disturbed(self) -> bool:
        """Whether other work on the machine takes more than half of its time."""
        return self.clock_s > 2 * self.alone_s


def timed_step(model: Any, batch: dict[str, Any], *, bf16: bool) -> Step:
    """Time a few training steps, after one that warms up, and take the fastest."""
    import torch

    from hybrid.encoders.device import training_device

    device = training_device()
    model, inputs = model.to(device), {name: tensor.to(device) for name, tensor in batch.items()}
    optimizer = torch.optim.AdamW(model.parameters())
    clock_s = processor_s = math.inf
    for round_number in range(ROUNDS + 1):
        start, processor_start = time.perf_counter(), time.process_time()
        with torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
            loss = model(**inputs).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        if round_number:
            clock_s = min(clock_s, time.perf_counter() - start)
            processor_s = min(processor_s, time.process_time() - processor_start)
    alone_s = processor_s / usable_threads() if device == "cpu" else clock_s
    return Step(clock_s=clock_s, alone_s=min(clock_s, alone_s))


def seconds_of_recipe(recipe: Recipe, seconds_a_step: float) -> float:
    """Estimate the seconds of a whole run of the recipe from those of one training step."""
    rows = recipe.split.train * (1 - recipe.train.validation)
    steps = math.ceil(rows / recipe.train.batch_size) * recipe.train.epochs
    return steps * seconds_a_step / SHARE_OF_TRAINING


def precision_check(choice: "PrecisionChoice") -> Check:
    """The training precision and what decided it."""
    times = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in choice.seconds.items())
    why = {
        "no_bf16_hardware": "nothing here multiplies bf16 in hardware",
        "bf16_faster": f"a trial step: {times}",
        "bf16_not_faster": f"bf16 gains too little in a trial step: {times}",
        "bf16_far_slower": f"bf16 is emulated here: {times} for a small step",
        "bf16_failed": f"bf16 failed: {choice.error}",
        "set_by_recipe": "",
    }[choice.reason]
    return Check(name="training precision", fact=f"{choice.precision}; {why}")


def recipe_check(recipe: Recipe, step: Step) -> Check:
    """How long the recipe would take."""
    seconds = seconds_of_recipe(recipe, step.alone_s)
    minutes = f"about {seconds / 60:.0f} minutes" if seconds >= 90 else f"about {seconds:.0f} s"
    fact = f"{minutes} for `hybrid.recipe {RECIPE}`, downloads left out"
    if seconds > PATIENCE_S:
        return Check(
            name="sentiment recipe",
            fact=fact,
            verdict="slow",
            because=f"a training step takes {step.alone_s:.1f} s on this machine",
            remedy="use more threads, or a machine with a GPU or AMX",
        )
    if step.is_disturbed:
        return Check(
            name="sentiment recipe",
            fact=f"{fact}, on a machine that does nothing else",
            verdict="slow",
            because=f"other work makes training {step.clock_s / step.alone_s:.0f} times as slow now",
            remedy="wait until it has ended",
        )
    return Check(name="sentiment recipe", fact=fact)
