"""An fp32 ONNX graph with int8 weights, in standard operators that onnxruntime fuses.

Weights are int8, symmetric, with a scale an output. Activations are uint8 with a scale that never depends on the
neighbours in a batch: either fixed for a tensor (`static`, from its range on training texts) or a scale for each
token (`row`). Dynamic quantization as commonly shipped takes one scale over the padded batch, so that a neighbour moves a
probability. uint8, because the int8 instructions of x86 without AMX multiply unsigned by signed: with signed
activations onnxruntime is ten times slower there.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hybrid.encoders.linears import Linear, Range, constants, find_linears
from hybrid.precisions import Scheme

MIDDLE = 128
"""The uint8 value that stands for zero where the range is symmetric."""
OUTLIER = 4.0
"""The ratio of the widest feature's range to the median's from which smoothing improved a fine-tuned MiniLM."""
LARGE_TABLE = {2: 1024, 3: 64}
"""The number of rows from which a table is shrunk, by its dimensions: embeddings (2), DeBERTa's positions by head (3)."""
LARGEST_WEIGHT = 127
"""The largest absolute value of an int8 weight that is symmetric about zero."""
MAX_FLOAT16 = 6e4
"""The largest absolute value that is stored as a 16-bit float."""


def quantized(
    model: onnx.ModelProto,
    schemes: Mapping[str, Scheme],
    ranges: Mapping[str, Range],
    *,
    outlier: float = OUTLIER,
    largest_weight: int = LARGEST_WEIGHT,
) -> onnx.ModelProto:
    """Copy a model with its embeddings and the linear maps named in `schemes` in int8.

    Other linear maps stay in fp32. `ranges` holds the range of each input, by the name of the tensor. An input is
    smoothed where the range of its widest feature is more than `outlier` times that of the median feature.
    `largest_weight` is the largest absolute value of a weight that is multiplied in int8.
    """
    return _Rewriter(model, schemes, ranges, outlier, largest_weight).rewritten()


class _Rewriter:
    """Rewrites a graph: keeps or replaces its nodes, and adds constants."""

    def __init__(
        self,
        model: onnx.ModelProto,
        schemes: Mapping[str, Scheme],
        ranges: Mapping[str, Range],
        outlier: float,
        largest_weight: int,
    ) -> None:
        self._model = model
        self._largest_weight = largest_weight
        self._outlier = outlier
        self._schemes = schemes
        self._ranges = ranges
        self._constants = constants(model)
        self._linears = {linear.node: linear for linear in find_linears(model) if linear.name in schemes}
        self._factors = self._smoothing()
        self._nodes: list[onnx.NodeProto] = []
        self._written: set[str] = set()
        self._added: dict[str, np.ndarray] = {}

    def rewritten(self) -> onnx.ModelProto:
        """Build the new model, without constants that no node reads any longer."""
        for node in self._model.graph.node:
            linear = self._linears.get(node.output[0])
            if linear is not None:
                self._linear(linear)
            elif self._reads_table(node, dimensions=2, axis=0):
                self._embedding(node)
            elif self._reads_table(node, dimensions=3, axis=1):
                self._half(node)
            else:
                self._nodes.append(node)
        return self._assembled()

    def _linear(self, linear: Linear) -> None:
        scheme = self._schemes[linear.name]
        if scheme == "weights":
            self._weights_only(linear)
            return
        weight, factors, x = self._constants[linear.weight], self._factors.get(linear.input), linear.input
        if factors is not None:
            weight = weight * factors[:, None]
            smooth = self._constant(f"{x}.smoothing", 1 / factors)
            x = self._op("Mul", [x, smooth], f"{x}.smooth")
        if scheme == "static":
            self._static(linear, x, *quantize_columns(weight, self._largest_weight))
        else:
            self._row(linear, x, *quantize_columns(weight, self._largest_weight))

    def _smoothing(self) -> dict[str, np.ndarray]:
        """Compute the smoothing factors of each input, by which its features are divided and its weights multiplied.

        A factor is the square root of the feature's range over the weights' (Xiao et al. 2023, "SmoothQuant"). Inputs
        that are wider than the output are not smoothed: the extra pass over them would cost more than it gains.
        """
        widest: dict[str, np.ndarray] = {}
        for linear in self._linears.values():
            if self._schemes[linear.name] != "weights" and not linear.narrows and self._has_outliers(linear.input):
                rows = np.abs(self._constants[linear.weight]).max(axis=1)
                widest[linear.input] = np.maximum(widest.get(linear.input, 0), rows)
        factors = {}
        for name, rows in widest.items():
            factor = np.sqrt(np.maximum(self._ranges[name].largest, 1e-5) / np.maximum(rows, 1e-5))
            factors[name] = (factor / np.exp(np.log(factor).mean())).astype(np.float32)
        return factors

    def _has_outliers(self, name: str) -> bool:
        largest = self._ranges[name].largest
        return bool(largest.max() > self._outlier * np.median(largest))

    def _weights_only(self, linear: Linear) -> None:
        """Store the weights in int8 and compute in fp32."""
        name = linear.weight
        weight, scale = quantize_columns(self._constants[name])
        packed = [self._constant(f"{name}.int8", weight), self._constant(f"{name}.scale", scale)]
        plain = self._op("DequantizeLinear", packed, f"{name}.fp32", axis=1)
        self._op("MatMul", [linear.input, plain], linear.node)

    def _static(self, linear: Linear, x: str, weight: np.ndarray, scale: np.ndarray) -> None:
        """Use the input's range on training texts for every text; values outside are clipped."""
        input_range, factors = self._ranges[linear.input], self._factors.get(linear.input, 1)
        low, high = (
            min(float((input_range.low / factors).min()), 0.0),
            max(float((input_range.high / factors).max()), 0.0),
        )
        step = np.float32(max((high - low) / 255, 1e-12))
        zero = self._constant(f"{x}.zero", np.asarray(round(-low / step), dtype=np.uint8))
        packed = self._op("QuantizeLinear", [x, self._constant(f"{x}.step", step), zero], f"{x}.uint8")
        self._product(linear, packed, weight, scale * step, zero, linear.node)

    def _row(self, linear: Linear, x: str, weight: np.ndarray, scale: np.ndarray) -> None:
        """Scale each token by its own largest absolute value."""
        last = self._constant("last_axis", np.array([-1], dtype=np.int64))
        high = self._op("ReduceMax", [x, last], f"{x}.high", keepdims=1)
        low = self._op("Neg", [self._op("ReduceMin", [x, last], f"{x}.low", keepdims=1)], f"{x}.minus_low")
        largest = self._op("Max", [high, low, self._constant("tiny", np.float32(1e-12))], f"{x}.largest")
        step = self._op("Mul", [largest, self._constant("of_127", np.float32(1 / 127))], f"{x}.row_step")
        middle = self._constant("middle", np.uint8(MIDDLE))
        steps = [self._op("Div", [x, step], f"{x}.steps"), self._constant("one_step", np.float32(1)), middle]
        packed = self._op("QuantizeLinear", steps, f"{x}.rows_uint8")
        self._product(linear, packed, weight, scale, middle, f"{linear.node}.steps")
        self._op("Mul", [f"{linear.node}.steps", step], linear.node)

    def _product(
        self, linear: Linear, packed: str, weight: np.ndarray, scale: np.ndarray, zero: str, output: str
    ) -> None:
        """Write the pattern that onnxruntime fuses into one kernel, with the bias that follows."""
        name = linear.weight
        sums = self._op("MatMulInteger", [packed, self._constant(f"{name}.int8", weight), zero], f"{output}.int32")
        whole = self._op("Cast", [sums], f"{output}.whole", to=TensorProto.FLOAT)
        step = self._op("Mul", [self._unit(), self._constant(f"{name}.scale", scale)], f"{output}.step")
        self._op("Mul", [whole, step], output)

    def _unit(self) -> str:
        """1.0, computed from the input's shape: a constant would be folded into the scales and prevent the fusion."""
        shape = self._op("Shape", [self._model.graph.input[0].name], "unit.shape", start=0, end=1)
        unit = self._op("Min", [shape, self._constant("unit.one", np.array([1], dtype=np.int64))], "unit.whole")
        return self._op("Cast", [unit], "unit", to=TensorProto.FLOAT)

    def _embedding(self, node: onnx.NodeProto) -> None:
        """Store an embedding table in int8, with a scale for each row."""
        table, ids = node.input
        weight, scale = quantize_columns(self._constants[table].T)
        packed = self._constant(f"{table}.int8", np.ascontiguousarray(weight.T))
        rows = self._op("Gather", [packed, ids], f"{node.output[0]}.int8", axis=0)
        whole = self._op("Cast", [rows], f"{node.output[0]}.whole", to=TensorProto.FLOAT)
        steps = [self._constant(f"{table}.scale", scale[:, None]), ids]
        self._op("Mul", [whole, self._op("Gather", steps, f"{node.output[0]}.step", axis=0)], node.output[0])

    def _half(self, node: onnx.NodeProto) -> None:
        """Store a table in 16 bits; onnxruntime converts the constant to 32 bits when it loads the graph."""
        table = node.input[0]
        halved = self._constant(f"{table}.half", self._constants[table].astype(np.float16))
        self._op("Cast", [halved], f"{table}.single", to=TensorProto.FLOAT)
        self._op("Gather", [f"{table}.single", node.input[1]], node.output[0], axis=1)

    def _reads_table(self, node: onnx.NodeProto, *, dimensions: int, axis: int) -> bool:
        """Whether the node looks up rows of a large constant with this number of dimensions."""
        if node.op_type != "Gather" or node.input[0] not in self._constants:
            return False
        table = self._constants[node.input[0]]
        node_axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        large = table.dtype == np.float32 and table.ndim == dimensions and table.shape[axis] >= LARGE_TABLE[dimensions]
        return large and node_axis == axis and (dimensions == 2 or np.abs(table).max() < MAX_FLOAT16)

    def _constant(self, name: str, values: np.ndarray | np.generic) -> str:
        self._added.setdefault(name, np.asarray(values))
        return name

    def _op(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node, once for each output: linear maps that read the same tensor share its quantized form."""
        if output not in self._written:
            self._written.add(output)
            self._nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def _assembled(self) -> onnx.ModelProto:
        read = {name for node in self._nodes for name in node.input}
        initializers = [constant for constant in self._model.graph.initializer if constant.name in read]
        added = [numpy_helper.from_array(np.asarray(values, order="C"), name) for name, values in self._added.items()]
        graph = helper.make_graph(
            self._nodes,
            "classifier",
            list(self._model.graph.input),
            list(self._model.graph.output),
            initializers + added,
        )
        model = helper.make_model(graph, opset_imports=self._model.opset_import, producer_name="hybrid")
        model.ir_version = self._model.ir_version
        return model


def quantize_columns(weight: np.ndarray, largest: int = LARGEST_WEIGHT) -> tuple[np.ndarray, np.ndarray]:
    """Quantize weights to `largest` at most: int8 [inputs, outputs], and the step of each output, float32 [outputs]."""
    step = np.maximum(np.abs(weight).max(axis=0), 1e-12) / largest
    return np.rint(weight / step).astype(np.int8), step.astype(np.float32)
