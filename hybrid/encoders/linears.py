"""The linear maps of an ONNX graph, and the ranges of their inputs on real texts."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

Feed = Mapping[str, np.ndarray]


class Linear(msgspec.Struct, frozen=True, kw_only=True):
    """A product of a text's hidden states with constant weights [inputs, outputs]."""

    name: str
    """The name of the weights, or of the bias where the exporter named only that."""
    node: str
    """The name of the output of its MatMul."""
    input: str
    """The name of its input tensor."""
    weight: str
    """The name of the constant that holds its weights."""
    n_inputs: int
    n_outputs: int

    @property
    def narrows(self) -> bool:
        """Whether it has fewer outputs than inputs, as the output of a feed-forward block has."""
        return self.n_inputs > self.n_outputs


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """The smallest and the largest value of each feature of a tensor, float32 [features]."""

    low: np.ndarray
    high: np.ndarray

    @property
    def largest(self) -> np.ndarray:
        """The largest absolute value of each feature."""
        return np.asarray(np.maximum(np.abs(self.low), np.abs(self.high)))


def find_linears(model: onnx.ModelProto) -> list[Linear]:
    """List the linear maps in the order of the graph, without those that compute the logits of labels and of tokens."""
    shapes = {constant.name: tuple(constant.dims) for constant in model.graph.initializer}
    biases = _biases(model)
    linears = []
    for node in model.graph.node:
        shape = shapes.get(node.input[1], ()) if node.op_type == "MatMul" else ()
        if len(shape) != 2 or shape[1] in (1, n_logits(model)):  # the evidence head has one output
            continue
        linears.append(
            Linear(
                name=_name(node.input[1], biases.get(node.output[0], "")),
                node=node.output[0],
                input=node.input[0],
                weight=node.input[1],
                n_inputs=shape[0],
                n_outputs=shape[1],
            )
        )
    return linears


def n_logits(model: onnx.ModelProto) -> int:
    """Read the number of labels of a classifier's graph."""
    return int(model.graph.output[0].type.tensor_type.shape.dim[-1].dim_value)


def input_ranges(path: Path, linears: Iterable[Linear], feeds: Iterable[Feed]) -> dict[str, Range]:
    """Measure the range of every linear map's input by running the graph on the feeds; keys are names of tensors.

    Pass feeds without padding: serving never uses what a graph computes for padding.
    """
    widths = {linear.input: linear.n_inputs for linear in linears}
    model = onnx.load(str(path))
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in widths)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    low = {name: np.full(width, np.inf, dtype=np.float32) for name, width in widths.items()}
    high = {name: -values for name, values in low.items()}
    for feed in feeds:
        for name, values in zip(widths, session.run(list(widths), dict(feed)), strict=True):
            tokens = values.reshape(-1, widths[name])
            low[name] = np.minimum(low[name], tokens.min(axis=0))
            high[name] = np.maximum(high[name], tokens.max(axis=0))
    return {name: Range(low=low[name], high=high[name]) for name in widths}


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """Read every constant of a graph, by name."""
    return {constant.name: numpy_helper.to_array(constant) for constant in model.graph.initializer}


def _biases(model: onnx.ModelProto) -> dict[str, str]:
    """Find the bias that is added to each value, by the value's name; biases that several values share are left out."""
    constant_names = {constant.name for constant in model.graph.initializer}
    biases = {
        name: bias
        for node in model.graph.node
        if node.op_type == "Add"
        for name, bias in (node.input, node.input[::-1])
        if bias in constant_names
    }
    uses = Counter(biases.values())
    return {name: bias for name, bias in biases.items() if uses[bias] == 1}


def _name(weight: str, bias: str) -> str:
    name = bias if bias.endswith(".bias") else weight
    return name.removeprefix("_model.").removesuffix(".bias").removesuffix(".weight")
