"""The device that the encoder trains and embeds on: decided here alone, so that every library is told the same."""

from typing import Literal

import torch

Device = Literal["cuda", "mps", "cpu"]


def training_device() -> Device:
    """Return the accelerator that torch can use on this machine, or the processor where there is none."""
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def has_bf16(device: Device) -> bool:
    """Return whether `device` multiplies bf16 in hardware: a GPU that says so, or a processor with AMX."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "mps":
        return False  # Metal emulates it on many Macs, and no machine that this is tested on has one
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())
