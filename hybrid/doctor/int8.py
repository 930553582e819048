"""Whether onnxruntime's products of 8-bit integers are exact on this processor."""

import numpy as np
import onnxruntime

from hybrid.doctor.check import Check
from hybrid.machine.processor import Processor

LENGTH = 64
ACTIVATION, WEIGHT = 255, 127
"""The largest of both kinds: two of their products do not fit into 16 bits."""


def int8_check(processor: Processor) -> Check:
    """Multiply the largest numbers and compare with the exact result."""
    try:
        product = largest_product()
    except ImportError as error:
        return by_features(processor, lacking=str(error.name))
    return judged(product, processor)


def largest_product() -> int:
    """What onnxruntime gets for `LENGTH` products of the largest activation and weight, added up.

    Raises:
        ImportError: onnx, which builds the graph, is not installed.
    """
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, ["rows", LENGTH])],
        [helper.make_tensor_value_info("c", TensorProto.INT32, ["rows", LENGTH])],
        [helper.make_tensor("b", TensorProto.INT8, [LENGTH, LENGTH], [WEIGHT] * LENGTH**2)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rows = np.full((8, LENGTH), ACTIVATION, dtype=np.uint8)
    return int(session.run(None, {"a": rows})[0][0, 0])


def judged(product: int, processor: Processor) -> Check:
    """The verdict on a product of `largest_product`."""
    kernels = _kernels(processor)
    exact = LENGTH * ACTIVATION * WEIGHT
    if product == exact:
        return Check(name="int8", fact=f"exact in onnxruntime {onnxruntime.__version__}{kernels}")
    return Check(
        name="int8",
        fact=f"saturates in onnxruntime {onnxruntime.__version__}{kernels}: {product} for {exact}",
        verdict="slow",
        because="an int8 bundle may answer otherwise than where it was made; it is refused then, unless it is portable",
        remedy="make the bundle on this machine, or ship one of `hybrid bundle RUN FOLDER --portable`",
    )


def by_features(processor: Processor, *, lacking: str) -> Check:
    """What the processor's features say, where no graph can be built."""
    if processor.has_exact_int8:
        return Check(name="int8", fact=f"exact by the processor's features{_kernels(processor)}")
    return Check(
        name="int8",
        fact=f"not tried: {lacking} is not installed",
        verdict="unknown",
        because="a bundle is checked against its golden texts when it loads",
    )


def _kernels(processor: Processor) -> str:
    names = [name for name in processor.features or () if name in ("VNNI", "AMX-INT8", "dot product", "I8MM")]
    return f" ({', '.join(names)})" if names else ""
