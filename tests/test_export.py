"""export: the graph computes what the checkpoint computes, or nothing is exported."""

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from transformers import AlbertConfig, AlbertForSequenceClassification

from hybrid.config import ExportConfig
from hybrid.encoders.checkpoint import load_classifier, load_tokenizer, write_tokenizer
from hybrid.encoders.exporting import checkpoint_logits, export
from hybrid.errors import ExportError
from hybrid.runtime.encoder import Encoder
from hybrid.runtime.text_encoder import TextLimits
from hybrid.types import Example
from tests.corpus import LABELS, texts_and_gold

TEXTS = texts_and_gold(60)[0] + ["short", "long " * 60]
ROWS = [Example(id=str(i), text=text, label="good") for i, text in enumerate(TEXTS)]
READING = TextLimits(max_length=32)
pytestmark = pytest.mark.slow


@pytest.fixture(params=["bert", "deberta"])
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A classifier of the family with a fresh head, saved as training saves it."""
    encoder = request.getfixturevalue(request.param)
    torch.manual_seed(1)
    folder = tmp_path / "checkpoint"
    tokenizer = load_tokenizer(encoder)
    load_classifier(encoder, LABELS).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_tokenizer(tokenizer, folder / "tokenizer.json", READING)
    return folder


@pytest.mark.parametrize(("backend", "used"), [("auto", "lean"), ("torch", "torch")])
def test_every_row_is_within_the_tolerance_and_the_graph_is_dynamic(
    backend: Literal["auto", "torch"], used: str, checkpoint: Path, tmp_path: Path
) -> None:
    config = ExportConfig(backend=backend)
    found = export(checkpoint, ROWS, LABELS, config, folder=tmp_path / "out", reading=READING)
    assert found.report["backend"] == used
    assert len(found.parity) == len(ROWS)
    assert max(row.max_abs_diff for row in found.parity) < 1e-5
    assert {row.tokens for row in found.parity} >= {32}
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    assert all(isinstance(axis, str) for wanted in session.get_inputs() for axis in wanted.shape)
    onnx.checker.check_model(onnx.load(tmp_path / "out" / "model.onnx"))


def test_lengths_that_were_never_traced_agree_too(checkpoint: Path, tmp_path: Path) -> None:
    export(checkpoint, ROWS, LABELS, ExportConfig(), folder=tmp_path / "out", reading=READING)
    model, tokenizer = load_classifier(checkpoint, LABELS).eval(), load_tokenizer(checkpoint)
    texts = [("fresh " * n).strip() for n in range(1, 32)]
    encoder = Encoder(tmp_path / "out", n_labels=3)
    assert np.abs(encoder.logits(texts) - checkpoint_logits(model, tokenizer, texts, READING)).max() < 1e-5


def test_a_checkpoint_gives_the_same_bytes_twice(checkpoint: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        export(checkpoint, ROWS, LABELS, ExportConfig(), folder=tmp_path / name, reading=READING)
    one, two = ((tmp_path / name / "model.onnx").read_bytes() for name in ("one", "two"))
    assert one == two


def test_a_graph_that_differs_is_refused_with_row_and_difference(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hybrid.encoders import exporting

    honest = exporting.EXPORTERS["lean"]

    def with_another_bias(model: torch.nn.Module, *args: object, **options: object) -> None:
        changed = load_classifier(checkpoint, LABELS)
        changed.classifier.bias.data += torch.tensor([0.01, 0.0, 0.0])
        honest(changed, *args, **options)

    monkeypatch.setitem(exporting.EXPORTERS, "lean", with_another_bias)
    with pytest.raises(
        ExportError, match=r"on row \d+ .* differs from the checkpoint's by 1\.00e-02, expected at most 1e-04"
    ):
        export(checkpoint, ROWS, LABELS, ExportConfig(), folder=tmp_path / "out", reading=READING)


def test_an_encoder_without_a_lean_graph_is_left_to_torch(bert: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(bert)
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = AlbertConfig(vocab_size=len(tokenizer), num_labels=3, max_position_embeddings=64, **sizes)
    checkpoint = tmp_path / "checkpoint"
    AlbertForSequenceClassification(config).save_pretrained(checkpoint)
    tokenizer.save_pretrained(checkpoint)
    write_tokenizer(tokenizer, checkpoint / "tokenizer.json", READING)
    found = export(checkpoint, ROWS[:8], LABELS, ExportConfig(), folder=tmp_path / "out", reading=READING)
    assert found.report["backend"] == "torch"
    assert max(row.max_abs_diff for row in found.parity) < 1e-5
