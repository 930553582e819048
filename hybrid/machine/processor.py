"""The processor: its name, and the instructions that decide how fast and how exactly it multiplies."""

import platform
from pathlib import Path

import msgspec

CPUINFO = Path("/proc/cpuinfo")
FEATURES = {
    "avx2": "AVX2",
    "avx512f": "AVX512",
    "avx512_vnni": "VNNI",
    "avx_vnni": "VNNI",
    "avx512_bf16": "AVX512-BF16",
    "amx_int8": "AMX-INT8",
    "amx_bf16": "AMX-BF16",
    "asimddp": "dot product",
    "i8mm": "I8MM",
    "bf16": "BF16",
    "sve": "SVE",
}
"""The flags of `/proc/cpuinfo` that matter to encoders, x86 first and then Arm, and the names that people know."""


class Processor(msgspec.Struct, frozen=True, kw_only=True):
    """What computes here."""

    name: str
    architecture: str
    """As Python names it: `x86_64`, `aarch64`, `arm64`, `AMD64`."""
    features: tuple[str, ...] | None
    """Those of `FEATURES` that it has; None where the system does not list them."""

    @property
    def has_exact_int8(self) -> bool | None:
        """Whether products of 8-bit integers are exact: with VNNI and on Arm; None where that is not known.

        Without VNNI, onnxruntime on x86 adds two products in 16 bits, which saturate.
        """
        if self.architecture.lower() in ("aarch64", "arm64"):
            return True
        return None if self.features is None else bool({"VNNI", "AMX-INT8"} & set(self.features))


def processor(*, cpuinfo: Path | None = None, architecture: str | None = None) -> Processor:
    """Read what the processor is, from `/proc/cpuinfo` where there is one."""
    architecture = architecture or platform.machine()
    try:
        lines = (cpuinfo or CPUINFO).read_text(errors="replace").splitlines()
    except OSError:
        return Processor(name=platform.processor() or architecture, architecture=architecture, features=None)
    fields: dict[str, str] = {}
    for name, _, value in (line.partition(":") for line in reversed(lines)):
        fields[name.strip()] = value.strip()
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    features = tuple(dict.fromkeys(name for flag, name in FEATURES.items() if flag in flags))
    return Processor(name=fields.get("model name") or architecture, architecture=architecture, features=features)
