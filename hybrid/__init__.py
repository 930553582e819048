"""Text classifiers with a language model's help: it cleans the labels, a small encoder serves.

This is the public API (`docs/api.md`): whatever else is in the package may change between releases.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hybrid.errors import BundleError as BundleError
    from hybrid.errors import ConfigError as ConfigError
    from hybrid.errors import DataError as DataError
    from hybrid.errors import HybridError as HybridError
    from hybrid.errors import LLMError as LLMError
    from hybrid.from_python.fit import fit as fit
    from hybrid.from_python.fitted import Fitted as Fitted
    from hybrid.runtime.cascade import Classifier as Classifier
    from hybrid.runtime.cascade import load as load
    from hybrid.runtime.decoder import LLMDecoder as LLMDecoder
    from hybrid.runtime.decoder_choice import Decoder as Decoder
    from hybrid.runtime.explain import Explanation as Explanation
    from hybrid.types import EvidenceWord as EvidenceWord
    from hybrid.types import Prediction as Prediction
    from hybrid.types import Vote as Vote

__version__ = "0.1.0"
__all__ = [
    "BundleError",
    "Classifier",
    "ConfigError",
    "DataError",
    "Decoder",
    "EvidenceWord",
    "Explanation",
    "Fitted",
    "HybridError",
    "LLMDecoder",
    "LLMError",
    "Prediction",
    "Vote",
    "fit",
    "load",
]

# Since 1.29, onnxruntime reports usage to Microsoft unless this is set before its import, and its reporting thread keeps
# a forked child from ever ending. Set the variable to 0 to have the reports.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOMES = {
    "hybrid.errors": ("BundleError", "ConfigError", "DataError", "HybridError", "LLMError"),
    "hybrid.from_python.fit": ("fit",),
    "hybrid.from_python.fitted": ("Fitted",),
    "hybrid.runtime.cascade": ("Classifier", "load"),
    "hybrid.runtime.decoder": ("LLMDecoder",),
    "hybrid.runtime.decoder_choice": ("Decoder",),
    "hybrid.runtime.explain": ("Explanation",),
    "hybrid.types": ("EvidenceWord", "Prediction", "Vote"),
}
"""The public names by the module that defines them."""


if not TYPE_CHECKING:  # a type checker would take any name for one that this gives

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used: `import hybrid` alone loads neither numpy nor onnxruntime."""
        for module, names in _HOMES.items():
            if name in names:
                return getattr(import_module(module), name)
        raise AttributeError(f"module 'hybrid' has no attribute {name!r}")
