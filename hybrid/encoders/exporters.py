"""The ways from a checkpoint to an ONNX graph: `export.backend` names one of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hybrid.encoders import bert_onnx, deberta_onnx, optimum_onnx, to_onnx

LEAN_INPUTS = ("input_ids", "attention_mask")
"""Without token types: the runtime encodes single texts, whose tokens all have type 0."""


def export_lean(model: Any, inputs: tuple[str, ...], path: Path, *, opset: int) -> None:
    """Write a sequence classifier as fp32 ONNX; batch and length stay dynamic.

    The inputs of the graph are those of `inputs` that change an answer.

    Raises:
        ExportError: there is no lean graph for the family, or for one of its options.
    """
    export = deberta_onnx.export_deberta if _is_deberta(model.config) else bert_onnx.export_bert
    export(model, tuple(name for name in inputs if name in LEAN_INPUTS), path, opset=opset)


def unknown_option(config: Any) -> str:
    """Return in words the first option of an encoder that no lean graph supports; empty where one supports all."""
    return deberta_onnx.unknown_option(config) if _is_deberta(config) else bert_onnx.unknown_option(config)


def _is_deberta(config: Any) -> bool:
    return bool(config.model_type == "deberta-v2")


EXPORTERS: dict[str, Callable[..., None]] = {
    "lean": export_lean,
    "torch": to_onnx.export_onnx,
    "optimum": optimum_onnx.export_onnx,
}
"""Each writes `(model, inputs, path, opset=...)` as fp32 ONNX."""
