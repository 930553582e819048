"""A bundle's reference: its answers to the calibration rows, with which live traffic is compared."""

from bisect import bisect_right

import msgspec


class Histogram(msgspec.Struct, frozen=True, kw_only=True):
    """A histogram: the number of rows in each cell of the number line."""

    edges: tuple[float, ...]
    """The boundaries between cells, increasing. The first and the last cell are unbounded."""
    rows: tuple[int, ...]
    """Rows by cell; one more cell than edges."""

    def cell(self, value: float) -> int:
        """Find the index of the cell of a value; a value on an edge belongs to the cell above it."""
        return bisect_right(self.edges, value)


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """The effect of a threshold on the calibration rows, each scored by a calibration that was fitted without it."""

    threshold: float
    kept: float
    """The share of the rows whose confidence reaches it; the rest escalate."""
    accuracy: float
    """The accuracy on the kept rows."""
    lower_bound: float
    """Exact binomial lower bound of that accuracy. It holds for a threshold chosen beforehand, not for the best of
    several that were tried."""


class Promise(msgspec.Struct, frozen=True, kw_only=True):
    """What the calibration rows support of one accuracy that could be promised, or how many rows would."""

    target: float
    """The accuracy of what the encoder keeps."""
    threshold: float | None = None
    """The lowest confidence to keep with which the rows support it; None where they do not."""
    kept: float = 0.0
    """The share of the rows whose confidence reaches the threshold."""
    rows_needed: int | None = None
    """About how many calibration rows would support it; None where it is supported, or where no number would."""


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """The bundle's answers to the calibration rows, in figures."""

    n_rows: int
    trusted: bool
    """Whether the rows' labels are gold; if not, an accuracy is the agreement with the labels as given."""
    confidence: Histogram
    labels: dict[str, int]
    """Rows by predicted label, the most frequent first; multi_label: by the canonical join of the labels."""
    tokens: Histogram | None = None
    """Rows by the number of tokens that the encoder reads."""
    escalated: int
    """Rows below the bundle's threshold."""
    delta: float
    """The probability that a lower bound of the curve is missed."""
    curve: tuple[Point, ...]
    """Points by increasing threshold; the first keeps every row."""
    promises: tuple[Promise, ...] = ()
    """Promises by increasing target; empty in bundles of earlier versions."""
