"""What a service embeds: numpy, onnxruntime, tokenizers and msgspec alone."""

from hybrid.runtime.cascade import Classifier, load

__all__ = ["Classifier", "load"]
