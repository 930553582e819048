"""The lean DeBERTa graph computes what transformers computes, at every length, or refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from transformers import DebertaV2Config, DebertaV2ForSequenceClassification

from hybrid.encoders import deberta_onnx
from hybrid.encoders.deberta_onnx import export_deberta
from hybrid.errors import ExportError

VOCABULARY = 300
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
LENGTHS = (1, 2, 16, 127, 128, 129, 130, 256, 512)
V3: dict[str, Any] = {
    "relative_attention": True,
    "position_buckets": 256,
    "pos_att_type": ["p2c", "c2p"],
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "position_biased_input": False,
    "type_vocab_size": 0,
}
pytestmark = pytest.mark.slow


def classifier(**options: Any) -> DebertaV2ForSequenceClassification:
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 96}
    config = DebertaV2Config(vocab_size=VOCABULARY, initializer_range=0.1, num_labels=3, **(sizes | V3 | options))
    return DebertaV2ForSequenceClassification(config).eval()


def texts(length: int) -> dict[str, np.ndarray]:
    """Return three rows: a full one, one padded from the middle on, one with a single padded place."""
    rng = np.random.default_rng(length)
    mask = np.ones((3, length), dtype=np.int64)
    mask[1, max(1, length // 2) :] = 0
    mask[2, max(1, length - 1) :] = 0
    ids = rng.integers(5, VOCABULARY, (3, length)) * mask
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": rng.integers(0, 2, (3, length)) * mask}


def session(model: Any, path: Path) -> onnxruntime.InferenceSession:
    export_deberta(model, INPUTS if model.config.type_vocab_size else INPUTS[:2], path, opset=20)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options)


def difference(model: Any, graph: onnxruntime.InferenceSession, length: int) -> float:
    """Return the largest absolute difference of a logit from transformers' eager model."""
    feed = texts(length)
    asked = {wanted.name for wanted in graph.get_inputs()}
    with torch.inference_mode():
        theirs = model(**{name: torch.from_numpy(feed[name]) for name in feed}).logits.numpy()
    ours = graph.run(None, {name: feed[name] for name in asked})[0]
    return float(np.abs(ours - theirs).max())


def test_every_length_agrees_with_transformers_padding_included(tmp_path: Path) -> None:
    model = classifier()
    graph = session(model, tmp_path / "model.onnx")
    assert max(difference(model, graph, length) for length in LENGTHS) < 1e-5


@pytest.mark.parametrize(
    "options",
    [
        {"share_att_key": False},
        {"pos_att_type": ["c2p"]},
        {"pos_att_type": ["p2c"]},
        {"pos_att_type": []},
        {"norm_rel_ebd": "none"},
        {"position_buckets": -1},
        {"position_biased_input": True},
        {"type_vocab_size": 2},
        {"embedding_size": 24},
        {"num_hidden_layers": 1},
    ],
    ids=str,
)
def test_the_options_of_version_2_agree_too(options: dict[str, Any], tmp_path: Path) -> None:
    model = classifier(**options)
    graph = session(model, tmp_path / "model.onnx")
    assert max(difference(model, graph, length) for length in (1, 2, 40, 300)) < 1e-5


def off_by_one(rows: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    """Return buckets whose logarithmic part is one further out."""

    def moved(config: Any, longest: int) -> np.ndarray:
        span, distance = 256, np.arange(1 - longest, longest)
        return rows(config, longest) + np.where(np.abs(distance) > span // 2, np.sign(distance), 0).clip(-1, 1)

    return moved


@pytest.mark.parametrize("mistake", ["a bucket off by one", "a flipped sign"])
def test_the_comparison_notices_a_mistake_in_the_positions(
    mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = classifier()
    if mistake == "a bucket off by one":
        monkeypatch.setattr(deberta_onnx, "bucket_rows", off_by_one(deberta_onnx.bucket_rows))
    else:
        monkeypatch.setattr(deberta_onnx, "mirrored", lambda table: table)
    graph = session(model, tmp_path / "model.onnx")
    assert difference(model, graph, 256) > 1e-4


def test_more_tokens_than_positions_are_an_error_and_never_an_answer(tmp_path: Path) -> None:
    graph = session(classifier(), tmp_path / "model.onnx")
    long = {"input_ids": np.ones((1, 513), dtype=np.int64), "attention_mask": np.ones((1, 513), dtype=np.int64)}
    with pytest.raises(Exception, match="out of data bounds"):
        graph.run(None, long)


def test_the_graph_is_small_and_of_standard_operators(tmp_path: Path) -> None:
    session(classifier(num_hidden_layers=12), tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model)
    assert {node.domain for node in model.graph.node} == {""}
    assert "If" not in {node.op_type for node in model.graph.node}
    assert len(model.graph.node) < 600


@pytest.mark.parametrize(
    "options", [{"conv_kernel_size": 3}, {"hidden_act": "relu"}, {"relative_attention": False}], ids=str
)
def test_what_the_graph_does_not_have_is_refused_by_name(options: dict[str, Any], tmp_path: Path) -> None:
    model = classifier(**options)
    with pytest.raises(ExportError, match=f"no {next(iter(options))} = .*export.backend"):
        session(model, tmp_path / "model.onnx")
