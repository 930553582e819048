"""What the calibration rows looked like to the bundle: what live texts are held against."""

from bisect import bisect_right

import msgspec


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows fall into each cell of the number line."""

    edges: tuple[float, ...]
    """Rising; where a cell ends and the next begins. The first and the last cell are open."""
    rows: tuple[int, ...]
    """One more than edges."""

    def cell(self, value: float) -> int:
        """Return the index of the cell of a value; a value on an edge belongs to the cell above it."""
        return bisect_right(self.edges, value)


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """What a threshold would come to on the calibration rows, each judged by a calibration that did not see it."""

    threshold: float
    kept: float
    """The share of the rows whose confidence reaches it; the rest escalate."""
    accuracy: float
    """Of what is kept."""
    lower_bound: float
    """Exact binomial lower bound of that accuracy, of this threshold alone: it makes no promise about the best of
    several that were looked at."""


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """The calibration rows as the bundle answers them."""

    n_rows: int
    trusted: bool
    """Whether their labels are gold; if not, an accuracy is the agreement with the labels as given."""
    confidence: Histogram
    labels: dict[str, int]
    """Rows by predicted label, the most frequent first; multi_label: by the canonical join of the labels."""
    tokens: Histogram | None = None
    """Of the tokens that the encoder reads."""
    escalated: int
    """Rows below the bundle's threshold."""
    delta: float
    """The probability that a lower bound of the curve is missed."""
    curve: tuple[Point, ...]
    """By rising threshold; the first keeps every row."""
