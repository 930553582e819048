"""DeBERTa-v2 and v3 classifiers as a lean ONNX graph of standard operators.

What makes it lean: projected positions are constants and only the rows that a length needs are
multiplied; a skew (reshape and slice) takes the place of an index [batch, heads, length, length]; hidden states stay
[batch * length, hidden]; one product gives query, key and value; the last layer works for the first
token alone, which is all that a classifier reads.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from hybrid.encoders.deberta_positions import bucket_rows, mirrored, position_span, project
from hybrid.encoders.onnx_graph import Graph
from hybrid.errors import ExportError

MASKED = -1e9
"""Added to the score of a padded key; its exponential is zero in float32."""


class _Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What every layer needs of the input's shape and positions, as names of values."""

    heads: int
    head_size: int
    span: int
    """Rows of the position tables for each direction."""
    length: str
    """[1]"""
    mask: str
    """[batch, 1, 1, length], added to the scores."""
    rows: str
    """Rows of the position tables for distances -length .. length - 1, [2 * length]."""
    first_rows: str
    """Rows for the first token's distances 0, -1 .. 1 - length, [length]."""
    skewed: str
    """The shape [0, 0, length, 2 * length - 1]."""


def export_deberta(model: Any, inputs: tuple[str, ...], path: Path, *, opset: int) -> None:
    """Write a `DebertaV2ForSequenceClassification` as fp32 ONNX; batch and length stay dynamic.

    Texts of more tokens than `max_position_embeddings` make the session fail, they are never answered wrongly.

    Raises:
        ExportError: an option of the model that this graph does not have.
    """
    model = model.to("cpu").float().eval()
    unknown = unknown_option(model.config)
    if unknown:
        raise ExportError(
            f'export: the lean DeBERTa graph has no {unknown}; set export.backend = "torch" in the recipe'
        )
    graph, encoder = Graph(), model.deberta.encoder
    with torch.inference_mode():
        shape = _shape(graph, model)
        x = _embed(graph, model, inputs)
        positions = encoder.get_rel_embedding()
        for number, layer in enumerate(encoder.layer[:-1]):
            x = _layer(graph, f"layer.{number}", layer, x, shape, positions)
        x = _last_layer(graph, f"layer.{len(encoder.layer) - 1}", encoder.layer[-1], x, shape, positions)
        pooled = graph.op("Gelu", _linear(graph, "pooler", model.pooler.dense, x))
        logits = _linear(graph, "classifier", model.classifier, pooled)
    graph.save(path, inputs=inputs, logits=logits, n_labels=model.config.num_labels, opset=opset)


def unknown_option(config: Any) -> str:
    """Return what of an encoder's configuration this graph does not have, in words; empty where it has all."""
    wanted = {
        "model_type": "deberta-v2",
        "hidden_act": "gelu",
        "pooler_hidden_act": "gelu",
        "conv_kernel_size": 0,
        "relative_attention": True,
    }
    for name, known in wanted.items():
        found = getattr(config, name, known)
        if found != known:
            return f"{name} = {found!r}, only {known!r}"
    return ""


def _shape(graph: Graph, model: Any) -> _Shape:
    config, attention = model.config, model.deberta.encoder.layer[0].attention.self
    longest = config.max_position_embeddings
    length = graph.op("Shape", "input_ids", start=1, end=2)
    # A length over the tables is an index out of bounds here: an error of the session, not a wrong slice.
    starts = graph.weight("position_starts", np.arange(longest, -1, -1, dtype=np.int64))
    start = graph.op("Gather", starts, length, axis=0)
    end = graph.op("Add", graph.ints(longest), length)
    buckets = bucket_rows(config, longest)  # distance d at place d + longest - 1
    every = np.concatenate([buckets[:1], buckets])  # distances -longest .. longest - 1; the first is never read
    rows = graph.op("Slice", graph.weight("position_rows", every), start, end, graph.ints(0))
    first = graph.weight("first_token_rows", buckets[longest - 1 :: -1])
    one_less = graph.op("Sub", graph.op("Mul", length, graph.ints(2)), graph.ints(1))
    padded = graph.op(
        "Sub", graph.weight("one", np.array([1], dtype=np.float32)), graph.op("Cast", "attention_mask", to=1)
    )
    mask = graph.op("Mul", padded, graph.weight("masked", np.array([MASKED], dtype=np.float32)))
    return _Shape(
        heads=attention.num_attention_heads,
        head_size=attention.attention_head_size,
        span=position_span(config),
        length=length,
        mask=graph.op("Unsqueeze", mask, graph.ints(1, 2)),
        rows=rows,
        first_rows=graph.op("Slice", first, graph.ints(0), length, graph.ints(0)),
        skewed=graph.op("Concat", graph.ints(0, 0), length, one_less, axis=0),
    )


def _embed(graph: Graph, model: Any, inputs: tuple[str, ...]) -> str:
    """Return the embedded tokens [batch * length, hidden]."""
    embeddings, size = model.deberta.embeddings, model.deberta.embeddings.embedding_size
    table = graph.weight("word_embeddings", _numpy(embeddings.word_embeddings.weight))
    x = graph.op("Gather", table, graph.op("Reshape", "input_ids", graph.ints(-1)), axis=0)
    if embeddings.position_embeddings is not None:
        longest = model.config.max_position_embeddings
        places = graph.weight("position_embeddings", _numpy(embeddings.position_embeddings.weight[:longest]))
        length = graph.op("Shape", "input_ids", start=1, end=2)
        here = graph.op("Slice", places, graph.ints(0), length, graph.ints(0))
        by_text = graph.op("Reshape", x, graph.op("Concat", graph.ints(-1), length, graph.ints(size), axis=0))
        x = graph.op("Reshape", graph.op("Add", by_text, here), graph.ints(-1, size))
    if embeddings.token_type_embeddings is not None:
        types = graph.weight("token_type_embeddings", _numpy(embeddings.token_type_embeddings.weight))
        asked = "token_type_ids" in inputs
        ids = graph.op("Reshape", "token_type_ids", graph.ints(-1)) if asked else graph.ints(0)
        x = graph.op("Add", x, graph.op("Gather", types, ids, axis=0))
    if embeddings.embed_proj is not None:
        x = graph.op("MatMul", x, graph.weight("embed_proj.weight", _numpy(embeddings.embed_proj.weight.T)))
    return _norm(graph, "embeddings", embeddings.LayerNorm, x)


def _layer(graph: Graph, name: str, layer: Any, x: str, shape: _Shape, positions: torch.Tensor) -> str:
    """Return the hidden states after a layer, [batch * length, hidden]."""
    attention = layer.attention.self
    scale = _scale(attention)
    projections = [(attention.query_proj, 1 / scale), (attention.key_proj, 1.0), (attention.value_proj, 1.0)]
    q, k, v = _heads(graph, _linears(graph, f"{name}.qkv", projections, x), shape, parts=3)
    scores = graph.op("MatMul", q, graph.op("Transpose", k, perm=[0, 1, 3, 2]))
    tables = project(attention, positions, shape.span, scale)
    if tables.keys is not None:
        scores = graph.op("Add", scores, _skewed(graph, f"{name}.position_keys", q, mirrored(tables.keys), shape))
    if tables.queries is not None:
        by_key = _skewed(graph, f"{name}.position_queries", k, tables.queries, shape)
        scores = graph.op("Add", scores, graph.op("Transpose", by_key, perm=[0, 1, 3, 2]))
    return _feed_forward(graph, name, layer, _attend(graph, scores, v, shape), x)


def _last_layer(graph: Graph, name: str, layer: Any, x: str, shape: _Shape, positions: torch.Tensor) -> str:
    """Return the first token's hidden state, [batch, hidden]: keys and values of all tokens, one query."""
    attention = layer.attention.self
    scale = _scale(attention)
    width = layer.attention.output.dense.out_features
    by_text = graph.op("Reshape", x, graph.op("Concat", graph.ints(-1), shape.length, graph.ints(width), axis=0))
    first = graph.op("Gather", by_text, graph.weight("first_token", np.array(0, dtype=np.int64)), axis=1)
    projections = [(attention.key_proj, 1.0), (attention.value_proj, 1.0)]
    k, v = _heads(graph, _linears(graph, f"{name}.kv", projections, x), shape, parts=2)
    q = _linears(graph, f"{name}.q", [(attention.query_proj, 1 / scale)], first)
    q = graph.op("Reshape", q, graph.ints(-1, shape.heads, 1, shape.head_size))
    scores = graph.op("MatMul", q, graph.op("Transpose", k, perm=[0, 1, 3, 2]))
    tables = project(attention, positions, shape.span, scale)
    if tables.keys is not None:
        keys = graph.op("Gather", graph.weight(f"{name}.position_keys", tables.keys), shape.first_rows, axis=1)
        scores = graph.op("Add", scores, graph.op("MatMul", q, graph.op("Transpose", keys, perm=[0, 2, 1])))
    if tables.queries is not None:
        queries = graph.op("Gather", graph.weight(f"{name}.position_queries", tables.queries), shape.first_rows, axis=1)
        by_key = graph.op("ReduceSum", graph.op("Mul", k, queries), graph.ints(-1), keepdims=0)
        scores = graph.op("Add", scores, graph.op("Unsqueeze", by_key, graph.ints(2)))
    return _feed_forward(graph, name, layer, _attend(graph, scores, v, shape), first)


def _skewed(graph: Graph, name: str, states: str, table: np.ndarray, shape: _Shape) -> str:
    """Return [batch, heads, i, j]: state i times the table's row for distance j - i.

    The products with the 2 * length rows in play stand in order of c = j - i + length. Dropping the first
    `length` of the flattened numbers and cutting rows of 2 * length - 1 puts j where c was.
    """
    rows = graph.op("Gather", graph.weight(name, table), shape.rows, axis=1)
    products = graph.op("MatMul", states, graph.op("Transpose", rows, perm=[0, 2, 1]))
    flat = graph.op("Reshape", products, graph.ints(0, 0, -1))
    shifted = graph.op("Slice", flat, shape.length, graph.ints(np.iinfo(np.int64).max), graph.ints(2))
    cut = graph.op("Reshape", shifted, shape.skewed)
    return graph.op("Slice", cut, graph.ints(0), shape.length, graph.ints(3))


def _attend(graph: Graph, scores: str, values: str, shape: _Shape) -> str:
    """Return the attended values, [batch * queries, hidden]."""
    weights = graph.op("Softmax", graph.op("Add", scores, shape.mask), axis=-1)
    context = graph.op("Transpose", graph.op("MatMul", weights, values), perm=[0, 2, 1, 3])
    return graph.op("Reshape", context, graph.ints(-1, shape.heads * shape.head_size))


def _feed_forward(graph: Graph, name: str, layer: Any, context: str, residual: str) -> str:
    attended = _linear(graph, f"{name}.attention_output", layer.attention.output.dense, context)
    x = _norm(graph, f"{name}.attention_norm", layer.attention.output.LayerNorm, graph.op("Add", attended, residual))
    inner = graph.op("Gelu", _linear(graph, f"{name}.ffn_input", layer.intermediate.dense, x))
    outer = _linear(graph, f"{name}.ffn_output", layer.output.dense, inner)
    return _norm(graph, f"{name}.ffn_norm", layer.output.LayerNorm, graph.op("Add", outer, x))


def _heads(graph: Graph, x: str, shape: _Shape, *, parts: int) -> tuple[str, ...]:
    """Return the parts of a stacked projection, each [batch, heads, length, head size]."""
    wanted = graph.op("Concat", graph.ints(-1), shape.length, graph.ints(parts * shape.heads, shape.head_size), axis=0)
    by_head = graph.op("Transpose", graph.op("Reshape", x, wanted), perm=[0, 2, 1, 3])
    return graph.ops("Split", by_head, outputs=parts, axis=1, num_outputs=parts)


def _linear(graph: Graph, name: str, module: torch.nn.Linear, x: str) -> str:
    return _linears(graph, name, [(module, 1.0)], x)


def _linears(graph: Graph, name: str, modules: Sequence[tuple[torch.nn.Linear, float]], x: str) -> str:
    """Return several linear maps of `x` side by side in one product, each multiplied by its factor."""
    weight = np.concatenate([_numpy(module.weight.T) * np.float32(factor) for module, factor in modules], axis=1)
    bias = np.concatenate([_numpy(module.bias) * np.float32(factor) for module, factor in modules])
    product = graph.op("MatMul", x, graph.weight(f"{name}.weight", weight))
    return graph.op("Add", product, graph.weight(f"{name}.bias", bias))


def _norm(graph: Graph, name: str, module: torch.nn.LayerNorm, x: str) -> str:
    weight = graph.weight(f"{name}.weight", _numpy(module.weight))
    bias = graph.weight(f"{name}.bias", _numpy(module.bias))
    return graph.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=module.eps)


def _scale(attention: Any) -> float:
    """Return what scores are divided by: sqrt of the head size times one plus the number of position terms."""
    terms = 1 + len({"c2p", "p2c"} & set(attention.pos_att_type))
    return float((attention.attention_head_size * terms) ** 0.5)


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    return np.asarray(tensor.detach().float().numpy())
