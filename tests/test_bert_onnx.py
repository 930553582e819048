"""The lean graph of BERT's kind computes what transformers computes, at every length, or refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from hybrid.encoders import bert_onnx, onnx_layers
from hybrid.encoders.bert_onnx import FAMILIES, export_bert
from hybrid.encoders.evidence import add_head, evidence_logits
from hybrid.encoders.onnx_graph import Graph
from hybrid.errors import ExportError

VOCABULARY = 300
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
LENGTHS = (1, 2, 16, 127, 128, 129, 130, 512)
PAD = 1
pytestmark = pytest.mark.slow


def classifier(family: str = "bert", **options: Any) -> Any:
    torch.manual_seed(0)
    sizes = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 96}
    if family == "distilbert":
        sizes = {"dim": 48, "n_layers": 3, "n_heads": 3, "hidden_dim": 96}
    positions = 512 + (PAD + 1 if FAMILIES[family].pads_shift_positions else 0)
    options = sizes | {"max_position_embeddings": positions, "pad_token_id": PAD} | options
    config = AutoConfig.for_model(family, vocab_size=VOCABULARY, initializer_range=0.15, num_labels=3, **options)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    for name, values in model.named_parameters():
        if name.endswith("bias"):  # fresh ones are zero, and would hide a bias that is lost
            torch.nn.init.normal_(values, std=0.1)
    return model


def texts(length: int) -> dict[str, np.ndarray]:
    """Return four rows: a full one, two padded, and one with the padding's token among its own."""
    rng = np.random.default_rng(length)
    mask = np.ones((4, length), dtype=np.int64)
    mask[1, max(1, length // 2) :] = 0
    mask[2, max(1, length - 1) :] = 0
    ids = np.where(mask, rng.integers(5, VOCABULARY, (4, length)), PAD)
    ids[3, length // 2] = PAD
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": rng.integers(0, 2, (4, length)) * mask}


def session(model: Any, path: Path, inputs: tuple[str, ...] = INPUTS[:2]) -> onnxruntime.InferenceSession:
    export_bert(model, inputs, path, opset=20)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(path, options)


def difference(model: Any, graph: onnxruntime.InferenceSession, length: int) -> float:
    """Return the largest absolute difference of a logit from transformers' eager model."""
    asked = [wanted.name for wanted in graph.get_inputs()]
    feed = {name: values for name, values in texts(length).items() if name in asked}
    with torch.inference_mode():
        theirs = model(**{name: torch.from_numpy(values) for name, values in feed.items()}).logits.numpy()
    return float(np.abs(graph.run(None, feed)[0] - theirs).max())


@pytest.mark.parametrize("family", FAMILIES)
def test_every_length_agrees_with_transformers_padding_included(family: str, tmp_path: Path) -> None:
    model = classifier(family)
    graph = session(model, tmp_path / "model.onnx")
    assert max(difference(model, graph, length) for length in LENGTHS) < 1e-5


@pytest.mark.parametrize("options", [{"num_hidden_layers": 1}, {"num_attention_heads": 1}], ids=str)
def test_other_sizes_agree_too(options: dict[str, Any], tmp_path: Path) -> None:
    model = classifier(**options)
    graph = session(model, tmp_path / "model.onnx")
    assert max(difference(model, graph, length) for length in (1, 2, 40)) < 1e-5


def test_an_embedding_narrower_than_the_layers_agrees_too(tmp_path: Path) -> None:
    model = classifier("electra", embedding_size=24)
    graph = session(model, tmp_path / "model.onnx")
    assert max(difference(model, graph, length) for length in (1, 2, 40)) < 1e-5


@pytest.mark.parametrize("family", ["bert", "electra"])
def test_token_types_count_where_the_graph_asks_for_them(family: str, tmp_path: Path) -> None:
    model = classifier(family)
    graph = session(model, tmp_path / "model.onnx", INPUTS)
    assert max(difference(model, graph, length) for length in (1, 2, 40)) < 1e-5


def ignored_mask(graph: Graph, *, heads: int, head_size: int) -> onnx_layers.Layout:
    """Return a layout whose mask is zero everywhere."""
    shape = onnx_layers.layout(graph, heads=heads, head_size=head_size)
    none = graph.op("Mul", shape.mask, graph.weight("none", np.zeros(1, dtype=np.float32)))
    return onnx_layers.Layout(heads=heads, head_size=head_size, length=shape.length, mask=none)


def swapped(layers: Callable[..., Any]) -> Callable[..., Any]:
    """Return layers whose queries and keys have changed places."""

    def changed(*arguments: Any) -> Any:
        return [
            bert_onnx._Layer(query=one.key, key=one.query, value=one.value, block=one.block)
            for one in layers(*arguments)
        ]

    return changed


class TanhGelu(Graph):
    """A graph whose Gelu is the approximation by a tangent."""

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        return super().op(kind, *inputs, **attributes | ({"approximate": "tanh"} if kind == "Gelu" else {}))


@pytest.mark.parametrize("mistake", ["a mask ignored", "queries and keys swapped", "another gelu"])
def test_the_comparison_notices_a_mistake(mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if mistake == "a mask ignored":
        monkeypatch.setattr(bert_onnx, "layout", ignored_mask)
    elif mistake == "another gelu":
        monkeypatch.setattr(bert_onnx, "Graph", TanhGelu)
    else:
        monkeypatch.setattr(bert_onnx, "_layers", swapped(bert_onnx._layers))
    model = classifier()
    assert difference(model, session(model, tmp_path / "model.onnx"), 40) > 3e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_more_tokens_than_positions_are_an_error_and_never_an_answer(family: str, tmp_path: Path) -> None:
    graph = session(classifier(family), tmp_path / "model.onnx")
    long = {"input_ids": np.full((1, 513), 7), "attention_mask": np.ones((1, 513), dtype=np.int64)}
    with pytest.raises(Exception, match=r"out of data bounds|broadcast"):
        graph.run(None, long)


def test_the_graph_is_small_and_of_standard_operators(tmp_path: Path) -> None:
    session(classifier(num_hidden_layers=12), tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(model)
    assert {node.domain for node in model.graph.node} == {""}
    assert len(model.graph.node) < 400


def test_onnxruntime_makes_one_kernel_of_every_product_and_none_of_the_slow_ones(tmp_path: Path) -> None:
    export_bert(classifier(), INPUTS[:2], tmp_path / "model.onnx", opset=20)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(tmp_path / "model.onnx", options)
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("Gemm") + kinds.count("FusedGemm") == 3 * 6 + 2  # layers, the head
    assert not {"SkipLayerNormalization", "BiasGelu"} & set(kinds)


@pytest.mark.parametrize("options", [{"hidden_act": "relu"}, {"is_decoder": True}], ids=str)
def test_what_the_graph_does_not_have_is_refused_by_name(options: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=f"no {next(iter(options))} = .*export.backend"):
        session(classifier(**options), tmp_path / "model.onnx")


@pytest.mark.parametrize("family", FAMILIES)
def test_the_evidence_head_agrees_with_transformers_in_every_family(family: str, tmp_path: Path) -> None:
    model = classifier(family)
    add_head(model)
    graph = session(model, tmp_path / "model.onnx")
    assert [output.name for output in graph.get_outputs()] == ["logits", "evidence"]
    for length in (1, 2, 40, 130):
        asked = [wanted.name for wanted in graph.get_inputs()]
        feed = {name: values for name, values in texts(length).items() if name in asked}
        with torch.inference_mode():
            outputs = model(
                **{name: torch.from_numpy(values) for name, values in feed.items()}, output_hidden_states=True
            )
            tokens = evidence_logits(model, outputs.hidden_states).numpy()
        ours, real = graph.run(None, feed)[1], feed["attention_mask"].astype(bool)
        assert np.abs(ours - tokens)[real].max() < 1e-5
        assert difference(model, graph, length) < 1e-5
