"""What is worth knowing of a machine beside a figure that was measured on it."""

import platform

import msgspec

from hybrid.machine.memory import Memory, memory
from hybrid.machine.processor import Processor, processor
from hybrid.machine.threads import Threads, threads


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """The facts; nothing in them names the machine or its user."""

    system: str
    """Such as `Linux 6.1`."""
    python: str
    processor: Processor
    threads: Threads
    memory: Memory


def this_machine() -> Machine:
    """Read the facts of the machine that this process runs on."""
    return Machine(
        system=f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        python=platform.python_version(),
        processor=processor(),
        threads=threads(),
        memory=memory(),
    )
