"""What training needs in memory at least, compared with what is there before it starts."""

from typing import Any

import msgspec
import torch

from hybrid.config import TrainConfig
from hybrid.encoders.device import Device, training_device
from hybrid.errors import ConfigError
from hybrid.machine.memory import memory

BYTES_A_PARAMETER = 12
"""A gradient and the two moments of Adam, 4 bytes each; the weights are loaded before this is asked."""
VALUES_A_UNIT = 17
"""Values that a transformer layer keeps for the backward pass for each token and hidden unit (Korthikanti et al.
2022, "Reducing Activation Recomputation in Large Transformer Models", section 4.1: 34 bytes in 16 bits)."""


class MemoryNeed(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that training takes at least, beside what is in use before it starts."""

    parameters: int
    state: int
    """Gradients and the optimizer's moments."""
    activations: int
    """What the layers keep for the backward pass, attention matrices left out."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.state + self.activations


def memory_need(model: Any, config: TrainConfig, *, tokens: int, bf16: bool) -> MemoryNeed:
    """Estimate from below what training takes, for batches whose texts are `tokens` long.

    A model whose configuration names its width or depth in another way counts with its parameters alone.
    """
    parameters = sum(weights.numel() for weights in model.parameters())
    hidden, layers = (getattr(model.config, name, 0) for name in ("hidden_size", "num_hidden_layers"))
    units = -(-config.batch_size // config.accumulation_steps) * tokens * hidden
    # With checkpointing only the input of each layer is kept, and one layer at a time is computed again.
    values = units * (layers + VALUES_A_UNIT if config.gradient_checkpointing else layers * VALUES_A_UNIT)
    return MemoryNeed(
        parameters=parameters, state=BYTES_A_PARAMETER * parameters, activations=values * (2 if bf16 else 4)
    )


def check_memory(model: Any, config: TrainConfig, *, tokens: int) -> None:
    """Compare what training needs at least with what is available.

    Raises:
        ConfigError: it cannot fit.
    """
    device = training_device()
    available = available_bytes(device)
    need = memory_need(model, config, tokens=tokens, bf16=config.precision != "fp32")
    if available is None or need.total <= available:
        return
    remedies = [
        *(() if config.gradient_checkpointing else ("train.gradient_checkpointing = true",)),
        *(() if config.accumulation_steps >= config.batch_size else ("a larger train.accumulation_steps",)),
        *(() if tokens <= 64 else ("a smaller encoder.max_length",)),
        "a smaller encoder",
    ]
    raise ConfigError(
        f"train: this encoder ({need.parameters / 1e6:.0f} million parameters) needs at least {_gb(need.total)} more memory "
        f"({_gb(need.state)} for gradients and the optimizer, {_gb(need.activations)} for batches of {config.batch_size} "
        f"texts of {tokens} tokens) and {_gb(available)} are available on the {device}; set {', or '.join(remedies)}"
    )


def available_bytes(device: Device) -> int | None:
    """The memory that is free for training on a device; None where the system does not tell."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return memory().available


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB"
