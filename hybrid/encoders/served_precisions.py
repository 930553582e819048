"""The precisions a graph can be served in, from the fastest to the most exact."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import onnx

from hybrid.encoders.linears import Feed, Linear, Range, find_linears, input_ranges
from hybrid.encoders.quantize import Scheme, quantized
from hybrid.types import Precision

PRECISIONS: tuple[Precision, ...] = (
    "int8_static",
    "int8_mixed",
    "int8_row",
    "int8_partial",
    "int8_half",
    "int8_weights",
    "fp32",
)
"""`int8_static`: activations with a fixed scale. `int8_mixed`: a scale for each token at the outputs of feed-forward
blocks, where the outliers are. `int8_row`: a scale for each token everywhere. `int8_partial`: as that, feed-forward
outputs in fp32. `int8_half`: and the most sensitive half of the rest too. `int8_weights`: weights in int8, work in fp32."""
WITH_SENSITIVITY = "int8_half"

Probe = Callable[[Path], np.ndarray]
"""Runs a graph on some rows and returns its logits [n, k]."""


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """An fp32 graph and what flows in it on training texts."""

    model: onnx.ModelProto
    linears: list[Linear]
    ranges: dict[str, Range]


def read_source(path: Path, feeds: Sequence[Feed]) -> Source:
    """Return the graph with the ranges of its linear maps' inputs over the feeds (one text each, no padding)."""
    model = onnx.load(str(path))
    linears = find_linears(model)
    return Source(model=model, linears=linears, ranges=input_ranges(path, linears, feeds))


def write_graph_at(source: Source, precision: Precision, path: Path, *, sensitive: Sequence[str] = ()) -> list[str]:
    """Write the graph at a precision below fp32; return the linear maps that stay in fp32.

    `sensitive` names linear maps from the most sensitive on, for `int8_half`.
    """
    schemes = _schemes(precision, source.linears, sensitive)
    onnx.save_model(quantized(source.model, schemes, source.ranges), str(path))
    return [linear.name for linear in source.linears if linear.name not in schemes]


def sensitivities(source: Source, probe: Probe, path: Path) -> dict[str, float]:
    """Return by linear map how far the logits move when it alone is in int8: root mean square, most first.

    `path` is overwritten with each graph in turn.
    """
    onnx.save_model(source.model, str(path))
    exact = probe(path)
    moved = {}
    for linear in source.linears:
        if not linear.narrows:
            onnx.save_model(quantized(source.model, {linear.name: "row"}, source.ranges), str(path))
            moved[linear.name] = float(np.sqrt(np.mean((probe(path) - exact) ** 2)))
    return dict(sorted(moved.items(), key=lambda item: -item[1]))


def _schemes(precision: Precision, linears: Sequence[Linear], sensitive: Sequence[str]) -> Mapping[str, Scheme]:
    wide = [linear.name for linear in linears if not linear.narrows]
    narrow = [linear.name for linear in linears if linear.narrows]
    kept = set(sensitive[: len(wide) // 2])
    halved = [name for name in wide if name not in kept]
    by_rung: dict[Precision, dict[Scheme, list[str]]] = {
        "int8_static": {"static": wide + narrow},
        "int8_mixed": {"static": wide, "row": narrow},
        "int8_row": {"row": wide + narrow},
        "int8_partial": {"row": wide},
        "int8_half": {"row": halved},
        "int8_weights": {"weights": wide + narrow},
    }
    return {name: scheme for scheme, names in by_rung[precision].items() for name in names}
