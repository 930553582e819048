"""bf16 where it pays: a timed trial of a few training steps decides, not the data sheet."""

import copy
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch

Precision = Literal["fp32", "bf16"]
TRIAL_STEPS = 3
LEAST_GAIN = 1.1
"""bf16 costs digits, so a smaller gain in speed is not taken."""


def has_bf16() -> bool:
    """Return whether the machine multiplies bf16 in hardware: a GPU with it, or AMX."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


def choose_precision(
    model: Any, batch: Mapping[str, torch.Tensor], loss: Callable[[Any, Mapping[str, torch.Tensor]], torch.Tensor]
) -> tuple[Precision, dict[str, float]]:
    """Return the faster of fp32 and bf16 autocast on this batch, with the seconds a step of each."""
    if not has_bf16():
        return "fp32", {}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    trial = copy.deepcopy(model).to(device).train()
    moved = {name: tensor.to(device) for name, tensor in batch.items()}
    seconds = {name: _seconds_a_step(trial, moved, loss, device, autocast=name == "bf16") for name in ("fp32", "bf16")}
    return ("bf16" if seconds["fp32"] >= LEAST_GAIN * seconds["bf16"] else "fp32"), seconds


def _seconds_a_step(
    model: Any,
    batch: Mapping[str, torch.Tensor],
    loss: Callable[[Any, Mapping[str, torch.Tensor]], torch.Tensor],
    device: str,
    *,
    autocast: bool,
) -> float:
    times = []
    for _ in range(TRIAL_STEPS + 1):
        start = time.perf_counter()
        with torch.autocast(device, dtype=torch.bfloat16, enabled=autocast):
            value = loss(model, batch)
        value.backward()  # type: ignore[no-untyped-call]
        model.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return sorted(times[1:])[TRIAL_STEPS // 2]
