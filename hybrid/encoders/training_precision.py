"""bf16 where it pays: a timed trial of a few training steps decides, not the data sheet."""

import copy
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch

from hybrid.encoders.device import Device, has_bf16, training_device

Precision = Literal["fp32", "bf16"]
TRIAL_STEPS = 3
LEAST_GAIN = 1.1
"""bf16 costs digits, so a smaller gain in speed is not taken."""


def choose_precision(
    model: Any, batch: Mapping[str, torch.Tensor], loss: Callable[[Any, Mapping[str, torch.Tensor]], torch.Tensor]
) -> tuple[Precision, dict[str, float]]:
    """Return the faster of fp32 and bf16 autocast on this batch, with the seconds a step of each.

    Processor time counts on a processor, so that other work on the machine does not decide; the two take turns, and
    the fastest step of each is compared.
    """
    device = training_device()
    if not has_bf16(device):
        return "fp32", {}
    trial = copy.deepcopy(model).to(device).train()
    moved = {name: tensor.to(device) for name, tensor in batch.items()}
    seconds: dict[str, float] = {}
    for step in range(TRIAL_STEPS + 1):
        for name in ("fp32", "bf16"):
            spent = _seconds_of_step(trial, moved, loss, device, autocast=name == "bf16")
            if step:  # the first step warms up
                seconds[name] = min(spent, seconds.get(name, spent))
    return faster_of(seconds), seconds


def faster_of(seconds: Mapping[str, float]) -> Precision:
    """Return the precision to train in, given the seconds a step of `fp32` and `bf16`."""
    return "bf16" if seconds["fp32"] >= LEAST_GAIN * seconds["bf16"] else "fp32"


def _seconds_of_step(
    model: Any,
    batch: Mapping[str, torch.Tensor],
    loss: Callable[[Any, Mapping[str, torch.Tensor]], torch.Tensor],
    device: Device,
    *,
    autocast: bool,
) -> float:
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    with torch.autocast(device, dtype=torch.bfloat16, enabled=autocast):
        value = loss(model, batch)
    value.backward()  # type: ignore[no-untyped-call]
    model.zero_grad()
    if device == "cuda":
        torch.cuda.synchronize()
    return clock() - start
