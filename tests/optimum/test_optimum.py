"""export.backend = "optimum": the same kind of bundle by another exporter. `make test-optimum` runs these."""

import importlib.util
import json
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from hybrid.config import ExportConfig
from hybrid.encoders.checkpoint import load_classifier, load_tokenizer, write_tokenizer
from hybrid.encoders.exporting import checkpoint_logits, export
from hybrid.encoders.optimum_onnx import export_onnx
from hybrid.errors import ConfigError, ExportError
from hybrid.runtime.encoder import Encoder
from hybrid.runtime.text_encoder import TextLimits
from hybrid.types import Example
from tests.corpus import LABELS, texts_and_gold

TEXTS = texts_and_gold(40)[0] + ["short", "long " * 60]
ROWS = [Example(id=str(i), text=text, label="good") for i, text in enumerate(TEXTS)]
CONFIG = msgspec.convert({"backend": "optimum", "parity_rows": 40}, ExportConfig)
READING = TextLimits(max_length=32)
needs_optimum = pytest.mark.skipif(importlib.util.find_spec("optimum") is None, reason="make test-optimum runs these")


def save_classifier(encoder: Path, folder: Path) -> Path:
    """Write a classifier with a fresh head, as training saves it."""
    torch.manual_seed(1)
    tokenizer = load_tokenizer(encoder)
    load_classifier(encoder, LABELS).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_tokenizer(tokenizer, folder / "tokenizer.json", READING)
    return folder


@pytest.fixture(params=["bert", "deberta"])
def checkpoint(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return save_classifier(request.getfixturevalue(request.param), tmp_path / "checkpoint")


@needs_optimum
@pytest.mark.slow
def test_every_row_is_within_the_tolerance_and_the_runtime_loads_the_graph(checkpoint: Path, tmp_path: Path) -> None:
    found = export(checkpoint, ROWS, LABELS, CONFIG, folder=tmp_path / "out", reading=READING)
    assert found.report["backend"] == "optimum"
    assert len(found.parity) == 40
    assert max(row.max_abs_diff for row in found.parity) < 1e-5
    model, tokenizer = load_classifier(checkpoint, LABELS).eval(), load_tokenizer(checkpoint)
    texts = [("fresh " * n).strip() for n in range(1, 32)]
    encoder = Encoder(tmp_path / "out", n_labels=3)
    assert np.abs(encoder.logits(texts) - checkpoint_logits(model, tokenizer, texts, READING)).max() < 1e-5


@needs_optimum
@pytest.mark.slow
def test_the_graph_is_of_the_same_kind_as_that_of_the_torch_backend(checkpoint: Path, tmp_path: Path) -> None:
    export(checkpoint, ROWS, LABELS, CONFIG, folder=tmp_path / "out", reading=READING)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["model.onnx", "tokenizer.json"]
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    assert [(one.name, one.type) for one in session.get_inputs()] == [
        ("input_ids", "tensor(int64)"),
        ("attention_mask", "tensor(int64)"),
    ]
    assert all(isinstance(axis, str) for wanted in session.get_inputs() for axis in wanted.shape)
    assert [one.name for one in session.get_outputs()] == ["logits"]
    graph = onnx.load(tmp_path / "out" / "model.onnx")
    assert {entry.version for entry in graph.opset_import if not entry.domain} == {CONFIG.opset}
    assert not any(node.doc_string or node.metadata_props for node in graph.graph.node)
    onnx.checker.check_model(graph)


@needs_optimum
@pytest.mark.slow
def test_a_checkpoint_that_transformers_5_wrote_is_exported(deberta: Path, tmp_path: Path) -> None:
    checkpoint = save_classifier(deberta, tmp_path / "checkpoint")
    path = checkpoint / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    # What 5 writes for a tokenizer of no family, and 4 has no class of that name.
    path.write_text(json.dumps(settings | {"tokenizer_class": "TokenizersBackend", "backend": "tokenizers"}))
    export(checkpoint, ROWS, LABELS, CONFIG, folder=tmp_path / "out", reading=READING)
    assert (tmp_path / "out" / "model.onnx").is_file()


@needs_optimum
@pytest.mark.slow
def test_a_graph_that_differs_is_refused(deberta: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from optimum.exporters import onnx as exporters

    honest = exporters.export

    def with_another_bias(model: torch.nn.Module, *args: object, **options: object) -> object:
        model.classifier.bias.data += torch.tensor([0.01, 0.0, 0.0])
        try:
            return honest(model, *args, **options)
        finally:
            model.classifier.bias.data -= torch.tensor([0.01, 0.0, 0.0])

    monkeypatch.setattr(exporters, "export", with_another_bias)
    checkpoint = save_classifier(deberta, tmp_path / "checkpoint")
    with pytest.raises(ExportError, match=r"differs from the checkpoint's by 1\.00e-02"):
        export(checkpoint, ROWS, LABELS, CONFIG, folder=tmp_path / "out", reading=READING)


@needs_optimum
def test_a_family_that_optimum_lacks_is_refused_by_name(bert: Path, tmp_path: Path) -> None:
    model = load_classifier(bert, LABELS)
    model.config.model_type = "sanskrit"
    with pytest.raises(ConfigError, match=r"no text classifier of the family 'sanskrit'"):
        export_onnx(model, ("input_ids",), tmp_path / "model.onnx", opset=20)


def test_without_optimum_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optimum", None)
    monkeypatch.setitem(sys.modules, "optimum.exporters", None)
    monkeypatch.setitem(sys.modules, "optimum.exporters.onnx", None)
    with pytest.raises(ConfigError, match=r"pip install 'hybrid-cascade\[optimum\]'"):
        export_onnx(None, ("input_ids",), tmp_path / "model.onnx", opset=20)
