"""Exports a checkpoint as an ONNX graph, and compares the logits of the two."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from hybrid.config import ExportConfig
from hybrid.encoders import bert_onnx, deberta_onnx, optimum_onnx, to_onnx
from hybrid.encoders.batches import read_windows
from hybrid.encoders.checkpoint import load_classifier, load_tokenizer
from hybrid.errors import ExportError
from hybrid.runtime.bundle import MODEL, TOKENIZER
from hybrid.runtime.encoder import Encoder
from hybrid.runtime.text_encoder import TextLimits, pool
from hybrid.types import Example, Parity

BATCH = 32
LEAN_INPUTS = ("input_ids", "attention_mask")
"""Without token types: the runtime encodes single texts, whose tokens all have type 0."""


def export_lean(model: Any, inputs: tuple[str, ...], path: Path, *, opset: int) -> None:
    """Write a sequence classifier as fp32 ONNX; batch and length stay dynamic.

    The inputs of the graph are those of `inputs` that change an answer.

    Raises:
        ExportError: there is no lean graph for the family or for one of its options.
    """
    export = deberta_onnx.export_deberta if _is_deberta(model.config) else bert_onnx.export_bert
    export(model, tuple(name for name in inputs if name in LEAN_INPUTS), path, opset=opset)


def unknown_option(config: Any) -> str:
    """Describe the first option of an encoder that no lean graph supports; empty if they support all."""
    return deberta_onnx.unknown_option(config) if _is_deberta(config) else bert_onnx.unknown_option(config)


def _is_deberta(config: Any) -> bool:
    return bool(config.model_type == "deberta-v2")


EXPORTERS: dict[str, Callable[..., None]] = {
    "lean": export_lean,
    "torch": to_onnx.export_onnx,
    "optimum": optimum_onnx.export_onnx,
}
"""Each writes `(model, inputs, path, opset=...)` as fp32 ONNX."""


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """How far each compared row is from the checkpoint, and the figures of the stage's report."""

    parity: list[Parity]
    report: dict[str, object]


def export(
    checkpoint: Path,
    rows: Sequence[Example],
    labels: Sequence[str],
    config: ExportConfig,
    *,
    folder: Path,
    reading: TextLimits,
    on_done: Callable[[int, int], None] | None = None,
) -> Exported:
    """Write `model.onnx` and `tokenizer.json` into `folder` and compare them with the checkpoint.

    `rows` are real training rows; `config.parity_rows` of them, spread over the lengths, go through
    the checkpoint with the tokenizer that it was trained with and through the runtime, in padded batches.

    Raises:
        ExportError: a logit differs by more than `config.tolerance`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer, model = load_tokenizer(checkpoint), load_classifier(checkpoint, labels).eval()
    inputs = tuple(
        name for name in tokenizer.model_input_names if name in ("input_ids", "attention_mask", "token_type_ids")
    )
    backend = config.backend
    if backend == "auto":
        backend = "torch" if unknown_option(model.config) else "lean"
    EXPORTERS[backend](model, inputs, folder / MODEL, opset=config.opset)
    shutil.copyfile(checkpoint / TOKENIZER, folder / TOKENIZER)
    sample = _spread(rows, config.parity_rows)
    texts = [row.text for row in sample]
    encoder = Encoder(folder, n_labels=len(labels), reading=reading)
    graph_logits = encoder.logits(texts, on_done=on_done)
    reference_logits = checkpoint_logits(model, tokenizer, texts, reading)
    max_abs_diff = np.abs(graph_logits - reference_logits).max(axis=1)
    parity = [
        Parity(id=row.id, tokens=len(encoded), max_abs_diff=float(diff))
        for row, encoded, diff in zip(sample, encoder.encode(texts), max_abs_diff, strict=True)
    ]
    _gate(parity, config)
    return Exported(
        parity=parity,
        report={
            "backend": backend,
            "precision": "fp32",
            "rows": len(parity),
            "max_abs_diff": float(max_abs_diff.max()),
            "tolerance": config.tolerance,
            "bytes": (folder / MODEL).stat().st_size,
        },
    )


def checkpoint_logits(model: Any, tokenizer: Any, texts: Sequence[str], reading: TextLimits) -> np.ndarray:
    """Compute the checkpoint's own logits, float32 of shape [n, k], in the order of the texts."""
    windows = read_windows(tokenizer, texts, reading)
    logits = []
    with torch.inference_mode():
        for start in range(0, sum(windows.counts), BATCH):
            batch = {name: column[start : start + BATCH] for name, column in windows.columns.items()}
            inputs = tokenizer.pad(batch, return_tensors="pt")
            logits.append(model(**inputs).logits.float().numpy())
    return pool(np.concatenate(logits), windows.counts, reading)


def _spread(rows: Sequence[Example], n_rows: int) -> list[Example]:
    """Choose at most `n_rows` rows with lengths spread from the shortest to the longest."""
    by_length = sorted(rows, key=lambda row: (len(row.text), row.id))
    if len(by_length) <= n_rows:
        return by_length
    picks = np.unique(np.linspace(0, len(by_length) - 1, n_rows).round().astype(int))
    return [by_length[i] for i in picks]


def _gate(parity: Sequence[Parity], config: ExportConfig) -> None:
    """Check that no row differs by more than the tolerance.

    Raises:
        ExportError: a row does.
    """
    worst = max(parity, key=lambda row: row.max_abs_diff)
    if not worst.max_abs_diff <= config.tolerance:
        raise ExportError(
            f"export: on row {worst.id} ({worst.tokens} tokens) a logit of the ONNX graph differs from the checkpoint's "
            f"by {worst.max_abs_diff:.2e}, expected at most {config.tolerance:.0e}; the graph is not served: "
            "try another export.opset, or raise export.tolerance if you can accept that"
        )
