"""What a service embeds: numpy, onnxruntime, tokenizers and msgspec alone."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hybrid.runtime.cascade import Classifier as Classifier
    from hybrid.runtime.cascade import load as load

__all__ = ["Classifier", "load"]


def __getattr__(name: str) -> object:
    """Import `load` and `Classifier` when first used: who only reads a manifest does not load onnxruntime."""
    if name in __all__:
        from hybrid.runtime import cascade

        return getattr(cascade, name)
    raise AttributeError(f"module 'hybrid.runtime' has no attribute {name!r}")
