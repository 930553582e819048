"""The machine: processor, threads, memory, accelerator, free disk."""

import os
import shutil
from pathlib import Path

from hybrid.artifacts import cache_dir
from hybrid.doctor.check import Check
from hybrid.machine.facts import Machine
from hybrid.machine.memory import Memory
from hybrid.machine.processor import Processor
from hybrid.machine.threads import Threads

SMALL_MEMORY = 2 * 10**9
"""Bytes below which the small packaged encoder may not train: its weights (0.1 GB), gradients and moments (0.3 GB) and the
activations of a batch of 32 texts of 128 tokens (0.6 GB, `hybrid.encoders.memory`), and the libraries (0.7 GB resident)."""
SMALL_DISK = 3 * 10**9
"""Bytes that the largest packaged encoder may take, 110 million parameters or 0.44 GB in fp32: while it is fetched three
times that (slices, archive, unpacked), and then its checkpoint with Adam's two moments, checkpoint and fp32 graph of the run."""


def machine_checks(machine: Machine) -> list[Check]:
    """What the machine has, a line each."""
    return [
        processor_check(machine.processor),
        threads_check(machine.threads),
        memory_check(machine.memory),
        accelerator_check(),
        disk_check(Path.cwd(), "disk of the runs"),
        disk_check(_existing(cache_dir()), "disk of the cache"),
    ]


def processor_check(processor: Processor) -> Check:
    """The processor's name and features, and whether its int8 arithmetic is exact."""
    if processor.features is None:
        return Check(
            name="processor", fact=f"{processor.name}, {processor.architecture}; this system does not list its features"
        )
    features = ", ".join(processor.features) or "none of those that speed up an encoder"
    fact = f"{processor.name}, {processor.architecture}: {features}"
    if processor.has_exact_int8 is False:
        return Check(
            name="processor",
            fact=fact,
            verdict="slow",
            because="without VNNI, int8 saves little time and may saturate",
            remedy="a bundle is checked against its golden texts when it loads; where it is refused, ship a portable one",
        )
    return Check(name="processor", fact=fact)


def threads_check(threads: Threads) -> Check:
    """How many threads are used, and what limits them."""
    quota = "no quota" if threads.quota is None else f"a quota of {threads.quota:g}"
    fact = f"{threads.usable} used; {threads.processors} processors in the affinity mask, {quota}"
    machine = os.cpu_count() or threads.processors
    if threads.usable < machine:
        return Check(name="threads", fact=fact, verdict="slow", because=f"the machine has {machine} processors")
    return Check(name="threads", fact=fact)


def memory_check(memory: Memory) -> Check:
    """Total and available memory, with the container's limit counted."""
    if memory.total is None:
        return Check(
            name="memory", fact="not known", verdict="unknown", because="this system tells it through psutil alone",
            remedy="pip install psutil",
        )  # fmt: skip
    available = "" if memory.available is None else f", {memory.available / 1e9:.1f} GB of it available"
    fact = f"{memory.total / 1e9:.1f} GB{available}"
    if (memory.available or memory.total) < SMALL_MEMORY:
        return Check(
            name="memory",
            fact=fact,
            verdict="fails",
            because=f"training the small packaged encoder takes about {SMALL_MEMORY / 1e9:.0f} GB",
            remedy="end other programs, or set train.accumulation_steps and train.gradient_checkpointing",
        )
    return Check(name="memory", fact=fact)


def accelerator_check() -> Check:
    """The GPU that torch would train on."""
    try:
        import torch
    except ImportError:
        return Check(name="accelerator", fact="not looked for: torch is not installed", verdict="unknown")
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        name = torch.cuda.get_device_name()
        return Check(name="accelerator", fact=f"{name}, {total / 1e9:.0f} GB, {free / 1e9:.0f} GB of it free")
    if torch.backends.mps.is_available():
        return Check(name="accelerator", fact="Apple GPU (mps), for training; bundles run on the processor")
    return Check(name="accelerator", fact="none: training runs on the processor, which is enough for small encoders")


def disk_check(folder: Path, name: str) -> Check:
    """Free space where a folder lies."""
    free = shutil.disk_usage(folder).free
    fact = f"{free / 1e9:.1f} GB free at {folder}"
    if free < SMALL_DISK:
        return Check(
            name=name,
            fact=fact,
            verdict="fails",
            because=f"a run and its artefacts may take {SMALL_DISK / 1e9:.0f} GB",
            remedy="free some space, or use --runs and HYBRID_CACHE for folders on another disk",
        )
    return Check(name=name, fact=fact)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())
