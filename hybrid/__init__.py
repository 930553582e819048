"""A language model works on the data, a small encoder serves."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hybrid.runtime import load as load

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """Import `load` when it is first used: `import hybrid` alone stays free of onnxruntime."""
    if name == "load":
        from hybrid.runtime import load

        return load
    raise AttributeError(f"module 'hybrid' has no attribute {name!r}")
