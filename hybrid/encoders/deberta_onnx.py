"""DeBERTa-v2 and v3 classifiers as a lean ONNX graph of standard operators.

What makes it lean: projected positions are constants and only the rows that a length needs are
multiplied; a skew (reshape and slice) takes the place of an index [batch, heads, length, length]; hidden states stay
[batch * length, hidden]; one product gives query, key and value; the last layer works for the first
token alone, which is all that a classifier reads.
"""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from hybrid.encoders.deberta_positions import bucket_rows, mirrored, position_span, project
from hybrid.encoders.evidence import head_of
from hybrid.encoders.onnx_graph import Graph
from hybrid.encoders.onnx_layers import (
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


class _Positions(msgspec.Struct, frozen=True, kw_only=True):
    """The relative positions that every layer needs; the strings are names of values in the graph."""

    length: str
    """The length of the batch's texts, shape [1]."""
    embedding: torch.Tensor
    """The relative embeddings, shape [2 * span, width]."""
    span: int
    """The number of rows of the position tables for each direction."""
    rows: str
    """The rows of the position tables for distances -length .. length - 1, shape [2 * length]."""
    first_rows: str
    """The rows for the first token's distances 0, -1 .. 1 - length, shape [length]."""
    skewed: str
    """The shape [0, 0, length, 2 * length - 1]."""


def export_deberta(model: Any, inputs: tuple[str, ...], path: Path, *, opset: int) -> None:
    """Write a `DebertaV2ForSequenceClassification` as fp32 ONNX; batch and length stay dynamic.

    Texts of more tokens than `max_position_embeddings` make the session fail; they never get a wrong answer.

    Raises:
        ExportError: an option of the model that this graph does not support.
    """
    model = model.to("cpu").float().eval()
    unknown = unknown_option(model.config)
    if unknown:
        raise ExportError(
            f'export: the lean DeBERTa graph has no {unknown}; set export.backend = "torch" in the recipe'
        )
    graph, encoder = Graph(), model.deberta.encoder
    with torch.inference_mode():
        attention = encoder.layer[0].attention.self
        shape = layout(graph, heads=attention.num_attention_heads, head_size=attention.attention_head_size)
        x = _embed(graph, model, inputs)
        positions = _positions(graph, model, shape)
        for number, layer in enumerate(encoder.layer[:-1]):
            x = _layer(graph, f"layer.{number}", layer, x, shape, positions)
        evidence = token_logits(graph, head_of(model), x, shape)
        x = _last_layer(graph, f"layer.{len(encoder.layer) - 1}", encoder.layer[-1], x, shape, positions)
        pooled = graph.op("Gelu", linear(graph, "pooler", model.pooler.dense, x))
        logits = linear(graph, "classifier", model.classifier, pooled)
    graph.save(path, inputs=inputs, logits=logits, n_labels=model.config.num_labels, opset=opset, evidence=evidence)


def unknown_option(config: Any) -> str:
    """Describe the first option of an encoder's configuration that this graph does not support; empty if it supports all."""
    supported = {
        "model_type": "deberta-v2",
        "hidden_act": "gelu",
        "pooler_hidden_act": "gelu",
        "conv_kernel_size": 0,
        "relative_attention": True,
    }
    for name, expected in supported.items():
        value = getattr(config, name, expected)
        if value != expected:
            return f"{name} = {value!r}, only {expected!r}"
    return ""


def _positions(graph: Graph, model: Any, shape: Layout) -> _Positions:
    config, length = model.config, shape.length
    longest = config.max_position_embeddings
    # A length over the tables is an index out of bounds here: an error of the session, not a wrong slice.
    starts = graph.weight("position_starts", np.arange(longest, -1, -1, dtype=np.int64))
    start = graph.op("Gather", starts, length, axis=0)
    end = graph.op("Add", graph.ints(longest), length)
    buckets = bucket_rows(config, longest)  # distance d at place d + longest - 1
    every = np.concatenate([buckets[:1], buckets])  # distances -longest .. longest - 1; the first is never read
    rows = graph.op("Slice", graph.weight("position_rows", every), start, end, graph.ints(0))
    first = graph.weight("first_token_rows", buckets[longest - 1 :: -1])
    one_less = graph.op("Sub", graph.op("Mul", length, graph.ints(2)), graph.ints(1))
    return _Positions(
        length=length,
        embedding=model.deberta.encoder.get_rel_embedding(),
        span=position_span(config),
        rows=rows,
        first_rows=graph.op("Slice", first, graph.ints(0), length, graph.ints(0)),
        skewed=graph.op("Concat", graph.ints(0, 0), length, one_less, axis=0),
    )


def _embed(graph: Graph, model: Any, inputs: tuple[str, ...]) -> str:
    """Add the embeddings of the tokens, [batch * length, hidden]."""
    embeddings, size = model.deberta.embeddings, model.deberta.embeddings.embedding_size
    table = graph.weight("word_embeddings", to_numpy(embeddings.word_embeddings.weight))
    x = graph.op("Gather", table, graph.op("Reshape", "input_ids", graph.ints(-1)), axis=0)
    if embeddings.position_embeddings is not None:
        longest = model.config.max_position_embeddings
        places = graph.weight("position_embeddings", to_numpy(embeddings.position_embeddings.weight[:longest]))
        length = graph.op("Shape", "input_ids", start=1, end=2)
        here = graph.op("Slice", places, graph.ints(0), length, graph.ints(0))
        by_text = graph.op("Reshape", x, graph.op("Concat", graph.ints(-1), length, graph.ints(size), axis=0))
        x = graph.op("Reshape", graph.op("Add", by_text, here), graph.ints(-1, size))
    if embeddings.token_type_embeddings is not None:
        types = graph.weight("token_type_embeddings", to_numpy(embeddings.token_type_embeddings.weight))
        has_types = "token_type_ids" in inputs
        ids = graph.op("Reshape", "token_type_ids", graph.ints(-1)) if has_types else graph.ints(0)
        x = graph.op("Add", x, graph.op("Gather", types, ids, axis=0))
    if embeddings.embed_proj is not None:
        x = graph.op("MatMul", x, graph.weight("embed_proj.weight", to_numpy(embeddings.embed_proj.weight.T)))
    return norm(graph, "embeddings", embeddings.LayerNorm, x)


def _layer(graph: Graph, name: str, layer: Any, x: str, shape: Layout, positions: _Positions) -> str:
    """Add a layer; its output are the hidden states, [batch * length, hidden]."""
    attention = layer.attention.self
    scale = _scale(attention)
    projections = [(attention.query_proj, 1 / scale), (attention.key_proj, 1.0), (attention.value_proj, 1.0)]
    q, k, v = _heads(graph, linears(graph, f"{name}.qkv", projections, x), shape, parts=3)
    scores = graph.op("MatMul", q, graph.op("Transpose", k, perm=[0, 1, 3, 2]))
    tables = project(attention, positions.embedding, positions.span, scale)
    if tables.keys is not None:
        scores = graph.op("Add", scores, _skewed(graph, f"{name}.position_keys", q, mirrored(tables.keys), positions))
    if tables.queries is not None:
        by_key = _skewed(graph, f"{name}.position_queries", k, tables.queries, positions)
        scores = graph.op("Add", scores, graph.op("Transpose", by_key, perm=[0, 1, 3, 2]))
    return feed_forward(graph, name, block_of(layer), attend(graph, scores, v, shape), x)


def _last_layer(graph: Graph, name: str, layer: Any, x: str, shape: Layout, positions: _Positions) -> str:
    """Add the last layer for the first token only, [batch, hidden]: keys and values of all tokens, one query."""
    attention = layer.attention.self
    scale = _scale(attention)
    first = first_tokens(graph, by_text(graph, x, shape))
    projections = [(attention.key_proj, 1.0), (attention.value_proj, 1.0)]
    k, v = _heads(graph, linears(graph, f"{name}.kv", projections, x), shape, parts=2)
    q = linears(graph, f"{name}.q", [(attention.query_proj, 1 / scale)], first)
    q = graph.op("Reshape", q, graph.ints(-1, shape.heads, 1, shape.head_size))
    scores = graph.op("MatMul", q, graph.op("Transpose", k, perm=[0, 1, 3, 2]))
    tables = project(attention, positions.embedding, positions.span, scale)
    if tables.keys is not None:
        keys = graph.op("Gather", graph.weight(f"{name}.position_keys", tables.keys), positions.first_rows, axis=1)
        scores = graph.op("Add", scores, graph.op("MatMul", q, graph.op("Transpose", keys, perm=[0, 2, 1])))
    if tables.queries is not None:
        queries = graph.op(
            "Gather", graph.weight(f"{name}.position_queries", tables.queries), positions.first_rows, axis=1
        )
        by_key = graph.op("ReduceSum", graph.op("Mul", k, queries), graph.ints(-1), keepdims=0)
        scores = graph.op("Add", scores, graph.op("Unsqueeze", by_key, graph.ints(2)))
    return feed_forward(graph, name, block_of(layer), attend(graph, scores, v, shape), first)


def _skewed(graph: Graph, name: str, states: str, table: np.ndarray, positions: _Positions) -> str:
    """Add the position scores [batch, heads, i, j]: state i times the table's row for distance j - i.

    The products with the 2 * length rows in play stand in order of c = j - i + length. Dropping the first
    `length` of the flattened numbers and cutting rows of 2 * length - 1 puts j where c was.
    """
    rows = graph.op("Gather", graph.weight(name, table), positions.rows, axis=1)
    products = graph.op("MatMul", states, graph.op("Transpose", rows, perm=[0, 2, 1]))
    flat = graph.op("Reshape", products, graph.ints(0, 0, -1))
    shifted = graph.op("Slice", flat, positions.length, graph.ints(np.iinfo(np.int64).max), graph.ints(2))
    cut = graph.op("Reshape", shifted, positions.skewed)
    return graph.op("Slice", cut, graph.ints(0), positions.length, graph.ints(3))


def _heads(graph: Graph, x: str, shape: Layout, *, parts: int) -> tuple[str, ...]:
    """Split a stacked projection into its parts, each [batch, heads, length, head size]."""
    heads = graph.op("Concat", graph.ints(-1), shape.length, graph.ints(parts * shape.heads, shape.head_size), axis=0)
    by_head = graph.op("Transpose", graph.op("Reshape", x, heads), perm=[0, 2, 1, 3])
    return graph.ops("Split", by_head, outputs=parts, axis=1, num_outputs=parts)


def _scale(attention: Any) -> float:
    """Compute the divisor of the scores: the square root of the head size times one plus the number of position terms."""
    n_terms = 1 + len({"c2p", "p2c"} & set(attention.pos_att_type))
    return float((attention.attention_head_size * n_terms) ** 0.5)
