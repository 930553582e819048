"""A real bundle that is made in seconds: a two-layer BERT with a fresh head, which no training has touched."""

from collections.abc import Sequence
from pathlib import Path

import torch

from hybrid.bundling import write_bundle
from hybrid.config import DataConfig, Recipe
from hybrid.encoders.checkpoint import load_classifier, load_tokenizer, vocabulary_of, write_tokenizer
from hybrid.encoders.to_onnx import export_onnx
from hybrid.runtime.calibration import Calibration, Threshold
from hybrid.runtime.reading import Reading


def write_tiny_bundle(folder: Path, encoder: Path, labels: Sequence[str], *, threshold: float = 0.5) -> Path:
    """Write the bundle of an untrained classifier over `encoder`; return its folder."""
    torch.manual_seed(1)
    tokenizer, model = load_tokenizer(str(encoder)), load_classifier(str(encoder), tuple(labels)).eval()
    with torch.no_grad():
        model.classifier.weight.mul_(20)  # a fresh head is sure of nothing
    exported, reading = folder / "export", Reading(max_length=32)
    exported.mkdir(parents=True)
    write_tokenizer(tokenizer, exported / "tokenizer.json", reading)
    export_onnx(model, tuple(tokenizer.model_input_names), exported / "model.onnx", opset=20)
    write_bundle(
        folder / "bundle",
        exported=exported,
        recipe=Recipe(name="dishes", data=DataConfig()),
        labels=tuple(labels),
        reading=reading,
        calibration=Calibration(),
        threshold=Threshold(value=threshold, target=0.9, delta=0.1, n_rows=1, kept=1.0, met=True),
        policy="",
        vocabulary=vocabulary_of(str(encoder)),
        golden_texts=["warm soup"],
    )
    return folder / "bundle"
