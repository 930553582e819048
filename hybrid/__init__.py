"""A language model works on the data, a small encoder serves."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hybrid.runtime import load as load

__version__ = "0.1.0"

# onnxruntime 1.29 and later reports what it runs to its maker unless told not to before its import; and the thread
# that does so keeps a forked child from ever ending. Who wants the reports sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def __getattr__(name: str) -> object:
    """Import `load` when it is first used: `import hybrid` alone stays free of onnxruntime."""
    if name == "load":
        from hybrid.runtime import load

        return load
    raise AttributeError(f"module 'hybrid' has no attribute {name!r}")
