"""The precisions that a graph can be served in: the one table that the recipe, the search and the command line read."""

from typing import Literal

import msgspec

from hybrid.types import FP32

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
    largest_weight: int = 127
    """The largest absolute value of an int8 weight. 63 (seven bits) leaves room for two products of the largest values in 16
    bits, in which x86 processors without VNNI add them."""

    @property
    def is_exact_everywhere(self) -> bool:
        """Whether every processor computes the same sums: no activation is in int8, or weights have seven bits."""
        return self.largest_weight <= LARGEST_EXACT or {self.wide, self.narrow} <= {None, "weights"}


LARGEST_EXACT = 63
"""255 * 63 * 2 is below 2 ** 15, and 255 * 64 * 2 is not far above."""
PRECISIONS: dict[str, ServedPrecision] = {
    "int8_static": ServedPrecision(wide="static", narrow="static"),
    "int8_mixed": ServedPrecision(wide="static", narrow="row"),
    "int8_row": ServedPrecision(wide="row", narrow="row"),
    "int7_mixed": ServedPrecision(wide="static", narrow="row", largest_weight=LARGEST_EXACT),
    "int7_row": ServedPrecision(wide="row", narrow="row", largest_weight=LARGEST_EXACT),
    "int8_partial": ServedPrecision(wide="row"),
    "int8_half": ServedPrecision(wide="row", spares_sensitive=True),
    "int8_weights": ServedPrecision(wide="weights", narrow="weights"),
    FP32: ServedPrecision(),
}
"""From the fastest to the most exact: the order in which `quantize.precision = "auto"` tries them (`ladder`)."""


def ladder(*, portable: bool) -> list[str]:
    """List the precisions below fp32 that are tried in turn.

    For a portable bundle those that every processor computes alike. For others those with eight bits: on the machine that
    tries them they are as fast, and nearer to fp32.
    """
    return [
        name
        for name, precision in PRECISIONS.items()
        if name != FP32 and (precision.is_exact_everywhere if portable else precision.largest_weight > LARGEST_EXACT)
    ]
