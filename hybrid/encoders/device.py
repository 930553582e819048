"""Chooses the device for training and embedding, and the training precision, by a timed trial."""

import copy
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec
import torch

Device = Literal["cuda", "mps", "cpu"]
TrainingPrecision = Literal["fp32", "bf16"]
Reason = Literal[
    "set_by_recipe", "no_bf16_hardware", "bf16_faster", "bf16_not_faster", "bf16_far_slower", "bf16_failed"
]
"""What decided the training precision."""
Batch = Mapping[str, torch.Tensor]
BatchLoss = Callable[[Any, Batch], torch.Tensor]
"""The loss of a model on a batch."""

CPU_BF16 = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")
"""torch's questions whether this processor multiplies bf16: Intel since 2023 has both, AMD since Zen 4 the second."""
TRIAL_STEPS = 3
TRIAL_SECONDS = 60.0
"""The trial starts no further round once its steps have taken this long together."""
SMALL_BATCH = 2
"""Rows of the first step at each precision: few suffice to expose emulated bf16, which is a hundred times slower."""
FAR_SLOWER = 5.0
"""The ratio of the small step's time in bf16 to that in fp32 above which bf16 is given up."""
NEGLIGIBLE_SECONDS = 1.0
"""A small step that takes less is no reason to give up bf16, because a first step also loads kernels."""
LEAST_GAIN = 1.1
"""The smallest gain in speed that is worth the lower accuracy of bf16."""


class PrecisionChoice(msgspec.Struct, frozen=True, kw_only=True):
    """The precision to train in, and what decided it."""

    precision: TrainingPrecision
    reason: Reason
    seconds: dict[str, float] = {}
    """Seconds of a training step by precision, from the trial; empty where none was timed."""
    error: str = ""
    """The error with which bf16 failed; empty if it did not."""


def training_device() -> Device:
    """Choose the accelerator that torch can use on this machine, or the CPU if there is none."""
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def has_bf16(device: Device) -> bool:
    """Whether `device` multiplies bf16 in hardware: a GPU that reports it, or a CPU with AMX or AVX512-BF16."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "mps":
        return False  # Metal emulates it on many Macs, and no machine that this is tested on has one
    # Underscored in torch, and without a public counterpart: a torch that lacks one of them answers no.
    return any(getattr(torch.cpu, name, lambda: False)() for name in CPU_BF16)


def choose_precision(model: Any, batch: Batch, loss: BatchLoss) -> PrecisionChoice:
    """Choose the faster of fp32 and bf16 autocast on this batch, within a bounded time.

    One step of each on `SMALL_BATCH` rows comes first. bf16 is given up where that step fails (a processor can claim
    what it cannot do) or is far slower than in fp32. The whole batch is then timed in both, which take turns, and the
    fastest step of each is compared. Processor time counts on a processor, so that other work on the machine does
    not decide.
    """
    device = training_device()
    if not has_bf16(device):
        return PrecisionChoice(precision="fp32", reason="no_bf16_hardware")
    trial = copy.deepcopy(model).to(device).train()
    whole = {name: tensor.to(device) for name, tensor in batch.items()}
    small = {name: tensor[:SMALL_BATCH] for name, tensor in whole.items()}
    seconds: dict[str, float] = {"fp32": _seconds_of_step(trial, small, loss, device, bf16=False)}
    try:
        seconds["bf16"] = _seconds_of_step(trial, small, loss, device, bf16=True)
        if seconds["bf16"] > max(NEGLIGIBLE_SECONDS, FAR_SLOWER * seconds["fp32"]):
            return PrecisionChoice(precision="fp32", reason="bf16_far_slower", seconds=seconds)
        seconds = _fastest_steps(trial, whole, loss, device)
    except RuntimeError as error:
        return PrecisionChoice(precision="fp32", reason="bf16_failed", error=str(error).strip().split("\n")[0])
    return faster_of(seconds)


def read_choice(data: bytes) -> PrecisionChoice:
    """Decode a stored choice; version 0.1.0 stored a pair of the precision and the trial's seconds."""
    if not data.lstrip().startswith(b"["):
        return msgspec.json.decode(data, type=PrecisionChoice)
    precision, seconds = msgspec.json.decode(data, type=tuple[TrainingPrecision, dict[str, float]])
    if not seconds:
        return PrecisionChoice(precision=precision, reason="no_bf16_hardware")
    reason: Reason = "bf16_faster" if precision == "bf16" else "bf16_not_faster"
    return PrecisionChoice(precision=precision, reason=reason, seconds=seconds)


def faster_of(seconds: Mapping[str, float]) -> PrecisionChoice:
    """Choose by the seconds of a step in `fp32` and in `bf16`."""
    faster = seconds["fp32"] >= LEAST_GAIN * seconds["bf16"]
    return PrecisionChoice(
        precision="bf16" if faster else "fp32",
        reason="bf16_faster" if faster else "bf16_not_faster",
        seconds=dict(seconds),
    )


def _fastest_steps(model: Any, batch: Batch, loss: BatchLoss, device: Device) -> dict[str, float]:
    """Time the fastest step on the whole batch by precision; the first round warms up."""
    fastest: dict[str, float] = {}
    total_s = 0.0
    for round_number in range(TRIAL_STEPS + 1):
        fp32, bf16 = (_seconds_of_step(model, batch, loss, device, bf16=bf16) for bf16 in (False, True))
        total_s += fp32 + bf16
        if round_number < 2:  # the second round replaces the first
            fastest = {"fp32": fp32, "bf16": bf16}
        fastest = {"fp32": min(fp32, fastest["fp32"]), "bf16": min(bf16, fastest["bf16"])}
        if total_s > TRIAL_SECONDS:
            break
    return fastest


def _seconds_of_step(model: Any, batch: Batch, loss: BatchLoss, device: Device, *, bf16: bool) -> float:
    """Time one forward and backward step, in seconds.

    Raises:
        RuntimeError: the device cannot do it, or its loss in bf16 is not a finite number.
    """
    clock = time.process_time if device == "cpu" else time.perf_counter
    start = clock()
    with torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
        value = loss(model, batch)
    value.backward()  # type: ignore[no-untyped-call]
    model.zero_grad()
    if device == "cuda":
        torch.cuda.synchronize()
    seconds = clock() - start
    if bf16 and not math.isfinite(float(value.detach())):
        raise RuntimeError("the loss of a step in bf16 is not a finite number")
    return seconds
