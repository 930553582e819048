"""Exports a checkpoint as an ONNX graph, and compares the logits of the two."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from hybrid.config import ExportConfig
from hybrid.encoders import bert_onnx, deberta_onnx, optimum_onnx, to_onnx
from hybrid.encoders.batches import Windows, read_windows, text_encoder_of
from hybrid.encoders.checkpoint import load_classifier, load_tokenizer
from hybrid.encoders.evidence import evidence_logits, head_of
from hybrid.errors import ExportError
from hybrid.runtime.bundle import MODEL, TOKENIZER
from hybrid.runtime.encoder import Encoder
from hybrid.runtime.evidence import scored_words
from hybrid.runtime.text_encoder import TextLimits, pool
from hybrid.types import EvidenceWord, Example, Parity

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
    the checkpoint with the tokenizer that it was trained with and through the runtime, in padded batches. The logits of
    the tokens are compared too, where the checkpoint has an evidence head.

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
    encoded = encoder.encode(texts)
    outputs = encoder.run_with_evidence(encoded, on_done=on_done)
    max_abs_diff = np.abs(outputs.logits - checkpoint_logits(model, tokenizer, texts, reading)).max(axis=1)
    if head_of(model) is not None:
        token_logits = checkpoint_evidence(model, tokenizer, texts, reading)
        max_abs_diff = np.maximum(max_abs_diff, _furthest(outputs.token_logits, token_logits))
    parity = [
        Parity(id=row.id, tokens=len(tokens), max_abs_diff=float(diff))
        for row, tokens, diff in zip(sample, encoded, max_abs_diff, strict=True)
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
        for inputs in _padded_batches(tokenizer, windows):
            logits.append(model(**inputs).logits.float().numpy())
    return pool(np.concatenate(logits), windows.counts, reading)


def checkpoint_evidence(
    model: Any, tokenizer: Any, texts: Sequence[str], reading: TextLimits
) -> list[list[np.ndarray]]:
    """Compute the token logits of the checkpoint's evidence head, for each window of each text, float32 [length]."""
    windows = read_windows(tokenizer, texts, reading)
    lengths = iter([len(ids) for ids in windows.columns["input_ids"]])
    of_windows: list[np.ndarray] = []
    with torch.inference_mode():
        for inputs in _padded_batches(tokenizer, windows):
            hidden = model(**inputs, output_hidden_states=True).hidden_states
            of_windows += [row[: next(lengths)] for row in evidence_logits(model, hidden).float().numpy()]
    rest = iter(of_windows)
    return [[next(rest) for _ in range(count)] for count in windows.counts]


def checkpoint_words(model: Any, tokenizer: Any, texts: Sequence[str], reading: TextLimits) -> list[list[EvidenceWord]]:
    """Score every word of each text with the checkpoint's evidence head, as serving does it with the graph's."""
    encoded = text_encoder_of(tokenizer, reading).read_with_offsets(texts)
    logits = checkpoint_evidence(model, tokenizer, texts, reading)
    return [scored_words(*of_text) for of_text in zip(texts, encoded, logits, strict=True)]


def _furthest(ours: Sequence[Sequence[np.ndarray]], theirs: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """The largest absolute difference of a token's logit in each text, [n]."""
    pairs = zip(ours, theirs, strict=True)
    return np.array([np.abs(np.concatenate(own) - np.concatenate(other)).max() for own, other in pairs])


def _padded_batches(tokenizer: Any, windows: Windows) -> Iterator[Any]:
    for start in range(0, sum(windows.counts), BATCH):
        batch = {name: column[start : start + BATCH] for name, column in windows.columns.items()}
        yield tokenizer.pad(batch, return_tensors="pt")


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
