"""The parts that all BERT-like encoders share in a lean graph: linear maps, attention and feed-forward blocks.

Hidden states stay [batch * length, hidden]: onnxruntime then makes one kernel of a product and its bias, and it does not
fuse a residual and its normalization into the kernel that is slow on processors.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import torch

from hybrid.encoders.evidence import HEAD
from hybrid.encoders.onnx_graph import Graph

MASKED = -1e9
"""Added to the score of a padded key; its exponential is zero in float32."""


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """The shape of the input, as every layer needs it: sizes, and names of values in the graph."""

    heads: int
    head_size: int
    length: str
    """The name of the number of tokens, [1]."""
    mask: str
    """The name of the mask that is added to the scores, [batch, 1, 1, length]."""

    @property
    def width(self) -> int:
        """The number of features of a hidden state."""
        return self.heads * self.head_size


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """The modules of a layer after its attention."""

    attention_output: torch.nn.Linear
    attention_norm: torch.nn.LayerNorm
    ffn_input: torch.nn.Linear
    ffn_output: torch.nn.Linear
    ffn_norm: torch.nn.LayerNorm


def layout(graph: Graph, *, heads: int, head_size: int) -> Layout:
    """Add the layout of the graph's inputs: their length, and the mask of the padding."""
    real = graph.op("Cast", "attention_mask", to=1)
    padded = graph.op("Sub", graph.weight("one", np.array([1], dtype=np.float32)), real)
    mask = graph.op("Mul", padded, graph.weight("masked", np.array([MASKED], dtype=np.float32)))
    return Layout(
        heads=heads,
        head_size=head_size,
        length=graph.op("Shape", "input_ids", start=1, end=2),
        mask=graph.op("Unsqueeze", mask, graph.ints(1, 2)),
    )


def by_text(graph: Graph, x: str, shape: Layout) -> str:
    """Reshape hidden states from [batch * length, width] to [batch, length, width]."""
    return graph.op("Reshape", x, graph.op("Concat", graph.ints(-1), shape.length, graph.ints(shape.width), axis=0))


def first_tokens(graph: Graph, x: str) -> str:
    """Select the first token's features, [batch, width], from [batch, length, width]."""
    return graph.op("Gather", x, graph.weight("first_token", np.array(0, dtype=np.int64)), axis=1)


def linear(graph: Graph, name: str, module: torch.nn.Linear, x: str) -> str:
    """Add a linear map of `x`."""
    return linears(graph, name, [(module, 1.0)], x)


def linears(graph: Graph, name: str, modules: Sequence[tuple[torch.nn.Linear, float]], x: str) -> str:
    """Add several linear maps of `x` as a single product, each multiplied by its factor."""
    weight = np.concatenate([to_numpy(module.weight.T) * np.float32(factor) for module, factor in modules], axis=1)
    bias = np.concatenate([to_numpy(module.bias) * np.float32(factor) for module, factor in modules])
    product = graph.op("MatMul", x, graph.weight(f"{name}.weight", weight))
    return graph.op("Add", product, graph.weight(f"{name}.bias", bias))


def token_logits(graph: Graph, module: torch.nn.Linear | None, x: str, shape: Layout) -> str:
    """Add the evidence head over the hidden states that enter the last layer: [batch, length]; empty without a head."""
    if module is None:
        return ""
    logits = linear(graph, HEAD, module, x)
    return graph.op("Reshape", logits, graph.op("Concat", graph.ints(-1), shape.length, axis=0))


def norm(graph: Graph, name: str, module: torch.nn.LayerNorm, x: str) -> str:
    """Add a layer normalization of `x`."""
    weight = graph.weight(f"{name}.weight", to_numpy(module.weight))
    bias = graph.weight(f"{name}.bias", to_numpy(module.bias))
    return graph.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=module.eps)


def attend(graph: Graph, scores: str, values: str, shape: Layout) -> str:
    """Add attention: from scores [batch, heads, queries, length] to values [batch * queries, width]."""
    weights = graph.op("Softmax", graph.op("Add", scores, shape.mask), axis=-1)
    context = graph.op("Transpose", graph.op("MatMul", weights, values), perm=[0, 2, 1, 3])
    return graph.op("Reshape", context, graph.ints(-1, shape.width))


def feed_forward(graph: Graph, name: str, block: Block, context: str, residual: str) -> str:
    """Add the part of a layer after its attention, up to its hidden states."""
    attended = linear(graph, f"{name}.attention_output", block.attention_output, context)
    x = norm(graph, f"{name}.attention_norm", block.attention_norm, graph.op("Add", attended, residual))
    inner = graph.op("Gelu", linear(graph, f"{name}.ffn_input", block.ffn_input, x))
    outer = linear(graph, f"{name}.ffn_output", block.ffn_output, inner)
    return norm(graph, f"{name}.ffn_norm", block.ffn_norm, graph.op("Add", outer, x))


def block_of(layer: Any) -> Block:
    """Collect the modules of a layer that uses BERT's names."""
    return Block(
        attention_output=layer.attention.output.dense,
        attention_norm=layer.attention.output.LayerNorm,
        ffn_input=layer.intermediate.dense,
        ffn_output=layer.output.dense,
        ffn_norm=layer.output.LayerNorm,
    )


def to_numpy(tensor: torch.Tensor) -> np.ndarray:
    """Copy the tensor's values as float32."""
    return np.asarray(tensor.detach().float().numpy())
