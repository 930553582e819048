"""Classifiers of BERT's kind as a lean ONNX graph of standard operators: BERT, RoBERTa, XLM-R, ELECTRA, DistilBERT, MPNet.

What makes it lean: hidden states stay [batch * length, hidden]; token types are all zero and so part of the positions;
the scale of the scores is folded into the queries. The last layer works for the first token alone, which is all that
a classifier reads. MPNet's bias by distance (Song et al. 2020), one table for all layers, is added to the mask once.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from hybrid.encoders.evidence import head_of
from hybrid.encoders.onnx_graph import Graph
from hybrid.encoders.onnx_layers import (
    Block,
    Layout,
    attend,
    block_of,
    by_text,
    feed_forward,
    first_tokens,
    layout,
    linear,
    linears,
    norm,
    to_numpy,
    token_logits,
)
from hybrid.errors import ExportError


class _Family(msgspec.Struct, frozen=True, kw_only=True):
    """The names of a family's modules, and the activation of its head."""

    encoder: str
    hidden: str
    """The first linear map of the head."""
    activation: str
    logits: str
    pads_shift_positions: bool = False
    """Whether positions count only tokens that are not padding, starting after the padding's own position."""
    has_distance_bias: bool = False
    """Whether scores get a bias by the distance of query and key, the same in every layer."""


class _Layer(msgspec.Struct, frozen=True, kw_only=True):
    """The modules of a layer, independent of their names in its family."""

    query: torch.nn.Linear
    key: torch.nn.Linear
    value: torch.nn.Linear
    block: Block


_ROBERTA = _Family(
    encoder="roberta",
    hidden="classifier.dense",
    activation="Tanh",
    logits="classifier.out_proj",
    pads_shift_positions=True,
)
FAMILIES = {
    "bert": _Family(encoder="bert", hidden="bert.pooler.dense", activation="Tanh", logits="classifier"),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "electra": _Family(encoder="electra", hidden="classifier.dense", activation="Gelu", logits="classifier.out_proj"),
    "distilbert": _Family(encoder="distilbert", hidden="pre_classifier", activation="Relu", logits="classifier"),
    "mpnet": _Family(
        encoder="mpnet",
        hidden="classifier.dense",
        activation="Tanh",
        logits="classifier.out_proj",
        pads_shift_positions=True,
        has_distance_bias=True,
    ),
}
"""The supported families, by the `model_type` of the configuration."""


def export_bert(model: Any, inputs: tuple[str, ...], path: Path, *, opset: int) -> None:
    """Write a sequence classifier of one of the `FAMILIES` as fp32 ONNX; batch and length stay dynamic.

    Texts of more tokens than the model has positions for make the session fail; they never get a wrong answer.

    Raises:
        ExportError: an option of the model that this graph does not support.
    """
    model = model.to("cpu").float().eval()
    unknown = unknown_option(model.config)
    if unknown:
        raise ExportError(f'export: the lean BERT graph has no {unknown}; set export.backend = "torch" in the recipe')
    graph, family, config = Graph(), FAMILIES[model.config.model_type], model.config
    heads = config.num_attention_heads
    shape = layout(graph, heads=heads, head_size=config.hidden_size // heads)
    x = _embed(graph, model, family, inputs, shape)
    first_shape = shape
    if family.has_distance_bias:
        shape, first_shape = _with_distance_bias(graph, model.get_submodule(family.encoder), config, shape)
    *layers, last = _layers(model, family)
    for number, layer in enumerate(layers):
        x = _layer(graph, f"layer.{number}", layer, x, shape)
    evidence = token_logits(graph, head_of(model), x, shape)
    x = _last_layer(graph, f"layer.{len(layers)}", last, x, first_shape)
    hidden = graph.op(family.activation, linear(graph, "pooler", model.get_submodule(family.hidden), x))
    logits = linear(graph, "classifier", model.get_submodule(family.logits), hidden)
    graph.save(path, inputs=inputs, logits=logits, n_labels=config.num_labels, opset=opset, evidence=evidence)


def unknown_option(config: Any) -> str:
    """Describe the first option of an encoder's configuration that this graph does not support; empty if it supports all."""
    if config.model_type not in FAMILIES:
        return f"model_type = {config.model_type!r}, only {', '.join(FAMILIES)}"
    supported = {
        "hidden_act": "gelu",
        "activation": "gelu",
        "position_embedding_type": "absolute",
        "is_decoder": False,
        "add_cross_attention": False,
    }
    for name, expected in supported.items():
        value = getattr(config, name, expected)
        if value != expected:
            return f"{name} = {value!r}, only {expected!r}"
    return ""


def _layers(model: Any, family: _Family) -> list[_Layer]:
    encoder = model.get_submodule(family.encoder)
    if family.encoder == "distilbert":
        return [_distilbert_layer(layer) for layer in encoder.transformer.layer]
    if family.encoder == "mpnet":
        return [_mpnet_layer(layer) for layer in encoder.encoder.layer]
    attentions = [(layer, layer.attention.self) for layer in encoder.encoder.layer]
    return [_Layer(query=own.query, key=own.key, value=own.value, block=block_of(layer)) for layer, own in attentions]


def _distilbert_layer(layer: Any) -> _Layer:
    attention = layer.attention
    block = Block(
        attention_output=attention.out_lin,
        attention_norm=layer.sa_layer_norm,
        ffn_input=layer.ffn.lin1,
        ffn_output=layer.ffn.lin2,
        ffn_norm=layer.output_layer_norm,
    )
    return _Layer(query=attention.q_lin, key=attention.k_lin, value=attention.v_lin, block=block)


def _mpnet_layer(layer: Any) -> _Layer:
    attention = layer.attention.attn
    block = Block(
        attention_output=attention.o,
        attention_norm=layer.attention.LayerNorm,
        ffn_input=layer.intermediate.dense,
        ffn_output=layer.output.dense,
        ffn_norm=layer.output.LayerNorm,
    )
    return _Layer(query=attention.q, key=attention.k, value=attention.v, block=block)


def _with_distance_bias(graph: Graph, encoder: Any, config: Any, shape: Layout) -> tuple[Layout, Layout]:
    """Add the bias by distance to the mask: [batch, heads, length, length] for the layers, one query for the last.

    A length over the table's makes an index that is out of bounds: an error of the session, not a wrong bias.
    """
    longest = config.max_position_embeddings
    distances = torch.arange(1 - longest, longest)  # of the key from the query
    with torch.inference_mode():
        biases = encoder.encoder.relative_attention_bias(encoder.encoder.relative_position_bucket(distances))
    table = graph.weight("distance_bias", to_numpy(biases.T))  # [heads, distances]
    places = graph.weight("places", np.arange(longest, dtype=np.int64))
    keys = graph.op("Slice", places, graph.ints(0), shape.length, graph.ints(0))
    from_queries = graph.op("Sub", keys, graph.op("Unsqueeze", keys, graph.ints(1)))
    rows = graph.op("Add", from_queries, graph.ints(longest - 1))
    from_first = graph.op("Unsqueeze", graph.op("Add", keys, graph.ints(longest - 1)), graph.ints(0))
    masks = [graph.op("Add", shape.mask, graph.op("Gather", table, index, axis=1)) for index in (rows, from_first)]
    every, first = (msgspec.structs.replace(shape, mask=mask) for mask in masks)
    return every, first


def _embed(graph: Graph, model: Any, family: _Family, inputs: tuple[str, ...], shape: Layout) -> str:
    """Add the embeddings of the tokens, [batch * length, width]."""
    encoder = model.get_submodule(family.encoder)
    embeddings = encoder.embeddings
    words = graph.weight("word_embeddings", to_numpy(embeddings.word_embeddings.weight))
    x = graph.op("Gather", words, "input_ids", axis=0)
    places = to_numpy(embeddings.position_embeddings.weight)
    if hasattr(embeddings, "token_type_embeddings"):
        types = to_numpy(embeddings.token_type_embeddings.weight)
        if "token_type_ids" in inputs:
            table = graph.weight("token_type_embeddings", types)
            x = graph.op("Add", x, graph.op("Gather", table, "token_type_ids", axis=0))
        else:
            places = places + types[0]
    x = graph.op("Add", x, _positions(graph, places, model, family, shape))
    x = norm(graph, "embeddings", embeddings.LayerNorm, graph.op("Reshape", x, graph.ints(-1, places.shape[1])))
    if hasattr(encoder, "embeddings_project"):
        x = linear(graph, "embeddings_project", encoder.embeddings_project, x)
    return x


def _positions(graph: Graph, places: np.ndarray, model: Any, family: _Family, shape: Layout) -> str:
    """Add the embeddings of the positions, [length, width] or [batch, length, width]."""
    table = graph.weight("position_embeddings", places)
    if not family.pads_shift_positions:
        return graph.op("Slice", table, graph.ints(0), shape.length, graph.ints(0))
    pad = graph.ints(model.config.pad_token_id)
    real = graph.op("Cast", graph.op("Not", graph.op("Equal", "input_ids", pad)), to=7)
    counted = graph.op("Mul", graph.op("CumSum", real, graph.ints(1)), real)
    return graph.op("Gather", table, graph.op("Add", counted, pad), axis=0)


def _layer(graph: Graph, name: str, layer: _Layer, x: str, shape: Layout) -> str:
    """Add a layer; its output are the hidden states, [batch * length, width]."""
    # Three separate products: splitting a stacked product costs more than it saves.
    q = linears(graph, f"{name}.query", [(layer.query, shape.head_size**-0.5)], x)
    k, v = linear(graph, f"{name}.key", layer.key, x), linear(graph, f"{name}.value", layer.value, x)
    q, k, v = _heads(graph, [q, k, v], shape)
    scores = graph.op("MatMul", q, graph.op("Transpose", k, perm=[0, 1, 3, 2]))
    return feed_forward(graph, name, layer.block, attend(graph, scores, v, shape), x)


def _last_layer(graph: Graph, name: str, layer: _Layer, x: str, shape: Layout) -> str:
    """Add the last layer for the first token only, [batch, width]: keys and values of all tokens, one query."""
    first = first_tokens(graph, by_text(graph, x, shape))
    q = linears(graph, f"{name}.query", [(layer.query, shape.head_size**-0.5)], first)
    q = graph.op("Reshape", q, graph.ints(-1, shape.heads, 1, shape.head_size))
    k, v = linear(graph, f"{name}.key", layer.key, x), linear(graph, f"{name}.value", layer.value, x)
    k, v = _heads(graph, [k, v], shape)
    scores = graph.op("MatMul", q, graph.op("Transpose", k, perm=[0, 1, 3, 2]))
    return feed_forward(graph, name, layer.block, attend(graph, scores, v, shape), first)


def _heads(graph: Graph, projections: Sequence[str], shape: Layout) -> list[str]:
    """Reshape each projection to [batch, heads, length, head size]."""
    by_head = graph.op("Concat", graph.ints(-1), shape.length, graph.ints(shape.heads, shape.head_size), axis=0)
    return [graph.op("Transpose", graph.op("Reshape", x, by_head), perm=[0, 2, 1, 3]) for x in projections]
