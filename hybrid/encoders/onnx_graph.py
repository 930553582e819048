"""Builds an ONNX graph node by node, in standard operators."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hybrid.runtime.engines.open_graph import EVIDENCE


class Graph:
    """A graph under construction. Values are referred to by name; every method returns the name of the value it adds."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._n_nodes = 0

    def weight(self, name: str, values: np.ndarray) -> str:
        """Add a named constant, with its own dtype."""
        assert name not in self._constants, f"weight {name} is added twice"
        self._constants[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)
        return name

    def ints(self, *values: int) -> str:
        """Add a constant int64 vector; equal vectors are stored once."""
        name = "ints_" + "_".join(map(str, values)).replace("-", "m")
        if name not in self._constants:
            self.weight(name, np.array(values, dtype=np.int64))
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add an operator with one output."""
        return self.ops(kind, *inputs, outputs=1, **attributes)[0]

    def ops(self, kind: str, *inputs: str, outputs: int, **attributes: Any) -> tuple[str, ...]:
        """Add an operator with several outputs."""
        self._n_nodes += 1
        names = tuple(f"{kind}_{self._n_nodes}" + (f"_{i}" if outputs > 1 else "") for i in range(outputs))
        self._nodes.append(helper.make_node(kind, inputs, names, name=f"{kind}_{self._n_nodes}", **attributes))
        return names

    def save(
        self, path: Path, *, inputs: Sequence[str], logits: str, n_labels: int, opset: int, evidence: str = ""
    ) -> None:
        """Write the model: int64 inputs [batch, sequence], output `logits` [batch, n_labels].

        Where `evidence` names a value, [batch, sequence], it is a second output of the name that the runtime knows.
        """
        outputs = [("logits", logits, ["batch", n_labels])]
        if evidence:
            outputs.append((EVIDENCE, evidence, ["batch", "sequence"]))
        for name, value, _ in outputs:
            self._nodes.append(helper.make_node("Identity", [value], [name], name=name))
        graph = helper.make_graph(
            self._nodes,
            "classifier",
            [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in inputs],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, _, shape in outputs],
            list(self._constants.values()),
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], producer_name="hybrid")
        model.ir_version = min(model.ir_version, 10)  # which runtimes of the last two years can read
        onnx.save_model(model, str(path))
