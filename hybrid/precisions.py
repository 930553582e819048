"""The precisions that a graph can be served in: the one table that the recipe, the search and the command line read."""

from typing import Literal

import msgspec

Scheme = Literal["static", "row", "weights"]
"""How a linear map computes in int8: activations with a fixed scale (static), with a scale for each token (row), or
weights in int8 and work in fp32 (weights)."""


class ServedPrecision(msgspec.Struct, frozen=True, kw_only=True):
    """How the linear maps of a graph are written; None leaves them in fp32."""

    wide: Scheme | None = None
    """The scheme of linear maps that keep or raise the number of features."""
    narrow: Scheme | None = None
    """The scheme of linear maps that lower it: the outputs of feed-forward blocks, where the outliers are."""
    spares_sensitive: bool = False
    """Whether the more sensitive half of the wide maps stays in fp32. The sensitivity is then measured."""


FP32 = "fp32"
PRECISIONS: dict[str, ServedPrecision] = {
    "int8_static": ServedPrecision(wide="static", narrow="static"),
    "int8_mixed": ServedPrecision(wide="static", narrow="row"),
    "int8_row": ServedPrecision(wide="row", narrow="row"),
    "int8_partial": ServedPrecision(wide="row"),
    "int8_half": ServedPrecision(wide="row", spares_sensitive=True),
    "int8_weights": ServedPrecision(wide="weights", narrow="weights"),
    FP32: ServedPrecision(),
}
"""From the fastest to the most exact: the order in which `quantize.precision = "auto"` tries them."""
