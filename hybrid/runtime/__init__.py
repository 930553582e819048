"""What a service embeds: numpy, onnxruntime, tokenizers and msgspec alone."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hybrid.runtime.cascade import Classifier as Classifier
    from hybrid.runtime.cascade import load as load
    from hybrid.runtime.decoder_choice import Decoder as Decoder

__all__ = ["Classifier", "Decoder", "load"]


if not TYPE_CHECKING:  # a type checker would take any name for one that this gives

    def __getattr__(name: str) -> object:
        """Import these names when they are first used: a program that only reads a manifest never loads onnxruntime."""
        if name in __all__:
            return getattr(import_module("hybrid.runtime.cascade"), name)
        raise AttributeError(f"module 'hybrid.runtime' has no attribute {name!r}")
