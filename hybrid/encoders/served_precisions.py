"""Writes an exported graph at another precision, and measures how sensitive each linear map is to int8."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnx

from hybrid.encoders.linears import Feed, Linear, Range, find_linears, input_ranges
from hybrid.encoders.quantize import quantized
from hybrid.precisions import PRECISIONS, Scheme, ServedPrecision
from hybrid.types import Precision

Probe = Callable[[Path], np.ndarray]
"""Runs a graph on some rows and returns its logits [n, k]."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """An fp32 graph, and the ranges of its linear maps' inputs on training texts."""

    model: onnx.ModelProto
    linears: list[Linear]
    ranges: dict[str, Range]
    """The range of each linear map's input, by the name of the tensor."""


def read_source(path: Path, feeds: Sequence[Feed]) -> Source:
    """Read an fp32 graph and run it on the feeds (one text each, no padding) for the ranges of its linear maps' inputs."""
    model = onnx.load(str(path))
    linears = find_linears(model)
    return Source(model=model, linears=linears, ranges=input_ranges(path, linears, feeds))


def write_graph_at(source: Source, precision: Precision, path: Path, *, sensitive: Sequence[str] = ()) -> list[str]:
    """Write the graph at a precision below fp32; return the names of the linear maps that stay in fp32.

    `sensitive` names linear maps, the most sensitive first, for a precision that spares those.
    """
    served = PRECISIONS[precision]
    schemes = _schemes(served, source.linears, sensitive)
    model = quantized(source.model, schemes, source.ranges, largest_weight=served.largest_weight)
    onnx.save_model(model, str(path))
    return [linear.name for linear in source.linears if linear.name not in schemes]


def sensitivities(source: Source, probe: Probe, path: Path) -> dict[str, float]:
    """Measure by linear map how far the logits move when it alone is in int8: root mean square, most first.

    `path` is overwritten with each graph in turn.
    """
    onnx.save_model(source.model, str(path))
    fp32_logits = probe(path)
    shifts = {}
    for linear in source.linears:
        if not linear.narrows:
            onnx.save_model(quantized(source.model, {linear.name: "row"}, source.ranges), str(path))
            shifts[linear.name] = float(np.sqrt(np.mean((probe(path) - fp32_logits) ** 2)))
    return dict(sorted(shifts.items(), key=lambda item: -item[1]))


def _schemes(precision: ServedPrecision, linears: Sequence[Linear], sensitive: Sequence[str]) -> Mapping[str, Scheme]:
    """Choose the scheme of each linear map that leaves fp32, by its name."""
    n_wide = sum(not linear.narrows for linear in linears)
    spared = set(sensitive[: n_wide // 2]) if precision.spares_sensitive else set()
    schemes = {linear.name: precision.narrow if linear.narrows else precision.wide for linear in linears}
    return {name: scheme for name, scheme in schemes.items() if scheme is not None and name not in spared}
