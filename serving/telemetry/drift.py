"""Drift detection: compares recent texts with the calibration rows, since a bundle's guarantees hold only for such texts.

`QUANTITIES` lists what is compared and `STATISTICS` how; metrics and the page are built from both. An alarm needs a
difference that is both statistically significant and large enough to matter.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise

import msgspec

from hybrid.runtime.bundle import Bundle
from hybrid.runtime.calibration_reference import Histogram, Reference
from serving.types import Answer

BLOCK = 250
"""The number of texts between two checks."""
BLOCKS = 4
"""The number of blocks in the window, so that each text takes part in four checks."""
FALSE_ALARM_RATE = 0.001
"""The probability of any alarm in a window of independent texts that are distributed like the calibration rows, over the
draw of both. It is divided by the number of quantities and of checks (Bonferroni)."""
MIN_PSI = 0.1
"""The population stability index below which even a significant difference raises no alarm (see `psi`)."""
MAX_LABELS = 32
"""The most labels with a cell of their own; the rarer labels share one cell."""
OTHER = "other"
MIN_EXPECTED_ROWS = 5.0
"""Cells with fewer rows expected in the smaller sample are merged (Cochran 1954, "Some methods for strengthening the
common chi-square tests")."""
PSI_SMOOTHING = 0.5
"""Added to each cell of the index, so that the logarithm of an empty cell is finite."""

Pairs = Sequence[tuple[int, int]]
"""Counts of recent texts and of calibration rows, cell by cell; small cells are merged."""


def psi(pairs: Pairs) -> float:
    """Population stability index: the sum of (p - q) ln(p / q).

    By the rule of credit scorecards, below 0.1 is no relevant change and above 0.25 a large one (Siddiqi 2006, "Credit
    risk scorecards").
    """
    if len(pairs) < 2:
        return 0.0
    recent = [r + PSI_SMOOTHING for r, _ in pairs]
    reference = [q + PSI_SMOOTHING for _, q in pairs]
    n_recent, n_reference = sum(recent), sum(reference)
    shares = [(r / n_recent, q / n_reference) for r, q in zip(recent, reference, strict=True)]
    return sum((p - q) * math.log(p / q) for p, q in shares)


def p_value(pairs: Pairs) -> float:
    """The p-value of Pearson's chi-square test of homogeneity; 1 where only one cell has rows."""
    if len(pairs) < 2:
        return 1.0
    n_recent, n_reference = sum(r for r, _ in pairs), sum(q for _, q in pairs)
    statistic = sum(
        (r * math.sqrt(n_reference / n_recent) - q * math.sqrt(n_recent / n_reference)) ** 2 / (r + q) for r, q in pairs
    )
    return chi_square_tail(statistic, len(pairs) - 1)


STATISTICS: dict[str, Callable[[Pairs], float]] = {"psi": psi, "p_value": p_value}
"""The statistics that compare two samples of counts. Each has a gauge `hybrid_drift_NAME` in the metrics."""


class Cells(msgspec.Struct, frozen=True, kw_only=True):
    """The cells in which a quantity is counted, with the counts of the calibration rows."""

    names: tuple[str, ...]
    rows: tuple[int, ...]
    edges: tuple[str, ...] = ()
    """The boundaries between the cells, if they are ordered."""
    cell_of: Callable[[Answer], int]


class Quantity(msgspec.Struct, frozen=True, kw_only=True):
    """A quantity of a text whose distribution is compared with that of the calibration rows."""

    name: str
    title: str
    """The heading of its chart on the page."""
    cells: Callable[[Bundle, Reference], Cells | None]
    """Builds the cells for a bundle; None if its reference lacks the quantity."""
    phrase: Callable[[Cells, int], str]
    """Describes texts in the cells up to an index, or in the cell at the index if the cells are not ordered."""


def _escalated(bundle: Bundle, reference: Reference) -> Cells:
    threshold = bundle.threshold.value
    return Cells(
        names=("kept", "below the threshold"),
        rows=(reference.n_rows - reference.escalated, reference.escalated),
        cell_of=lambda answer: int(answer.encoder_confidence < threshold),
    )


def _confidence(_bundle: Bundle, reference: Reference) -> Cells:
    edges = [f"{edge:.3f}" for edge in reference.confidence.edges]
    return _of_histogram(reference.confidence, edges, lambda answer: answer.encoder_confidence)


def _labels(_bundle: Bundle, reference: Reference) -> Cells:
    frequent = list(reference.labels.items())[:MAX_LABELS]
    rest = sum(reference.labels.values()) - sum(rows for _, rows in frequent)
    cell_by_label = {label: i for i, (label, _) in enumerate(frequent)}
    return Cells(
        names=(*cell_by_label, OTHER),
        rows=(*(rows for _, rows in frequent), rest),
        cell_of=lambda answer: cell_by_label.get(answer.encoder_label, len(cell_by_label)),
    )


def _tokens(_bundle: Bundle, reference: Reference) -> Cells | None:
    if reference.tokens is None:
        return None
    # An edge may stand between two whole numbers.
    edges = [str(math.ceil(edge)) for edge in reference.tokens.edges]
    return _of_histogram(reference.tokens, edges, lambda answer: answer.tokens)


def _of_histogram(histogram: Histogram, edges: Sequence[str], value: Callable[[Answer], float]) -> Cells:
    inner = [f"{low} to {high}" for low, high in pairwise(edges)]
    names = [f"below {edges[0]}", *inner, f"{edges[-1]} and more"] if edges else ["all"]
    return Cells(
        names=tuple(names),
        rows=histogram.rows,
        edges=tuple(edges),
        cell_of=lambda answer: histogram.cell(value(answer)),
    )


QUANTITIES = (
    Quantity(
        name="escalated",
        title="Below the threshold",
        cells=_escalated,
        phrase=lambda _cells, _index: "are below the threshold",
    ),
    Quantity(
        name="confidence",
        title="Confidence",
        cells=_confidence,
        phrase=lambda cells, i: f"have a confidence below {_edge(cells, i)}",
    ),
    Quantity(
        name="labels",
        title="Labels",
        cells=_labels,
        phrase=lambda cells, i: f"are labelled {cells.names[i]!r}",
    ),
    Quantity(
        name="tokens",
        title="Tokens per text",
        cells=_tokens,
        phrase=lambda cells, i: f"have fewer than {_edge(cells, i)} tokens",
    ),
)
"""The quantities that are compared. To add one, add an entry here."""


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """How one quantity of the recent texts differs from the calibration rows."""

    quantity: str
    title: str
    psi: float
    p_value: float
    statistics: dict[str, float]
    """All of `STATISTICS` by name."""
    alarm: bool
    says: str
    """A sentence on what changed, and by how much."""
    cells: tuple[str, ...]
    recent: tuple[float, ...]
    """The share of the recent texts in each cell; `reference` has that of the calibration rows."""
    reference: tuple[float, ...]


class _Counts:
    """The counts of one quantity: those of the calibration rows, and those of the recent blocks."""

    def __init__(self, quantity: Quantity, cells: Cells) -> None:
        self.quantity = quantity
        self.cells = cells
        self.block = [0] * len(cells.names)
        self.blocks: deque[tuple[int, ...]] = deque(maxlen=BLOCKS)

    def end_block(self) -> None:
        self.blocks.append(tuple(self.block))
        self.block = [0] * len(self.block)

    def recent(self) -> tuple[int, ...]:
        return tuple(map(sum, zip(*self.blocks, strict=True)))


class DriftMonitor:
    """Monitors the recent texts of one bundle. The cost of `note` does not grow with the number of texts."""

    def __init__(self, bundle: Bundle, reference: Reference) -> None:
        """Start with no text seen."""
        self.drifts: tuple[Drift, ...] = ()
        """The result of the last check for each quantity; empty before the first check."""
        self.n_recent = 0
        """The number of texts in the last check."""
        pairs = [(quantity, quantity.cells(bundle, reference)) for quantity in QUANTITIES]
        self._counts = [_Counts(quantity, cells) for quantity, cells in pairs if cells is not None]
        self._n_seen = 0

    def note(self, answers: Sequence[Answer]) -> bool:
        """Count the encoder's answers; return whether they filled a block, so that `drifts` is new."""
        has_checked = False
        for answer in answers:
            for counts in self._counts:
                counts.block[counts.cells.cell_of(answer)] += 1
            self._n_seen += 1
            if self._n_seen % BLOCK == 0:
                self._check()
                has_checked = True
        return has_checked

    def _check(self) -> None:
        level = FALSE_ALARM_RATE / (len(self._counts) * BLOCKS)
        for counts in self._counts:
            counts.end_block()
        self.n_recent = min(self._n_seen, BLOCK * BLOCKS)
        self.drifts = tuple(_drift(counts, level) for counts in self._counts)


def compare(recent: Sequence[int], reference: Sequence[int]) -> dict[str, float]:
    """Compute every statistic of two samples of counts over the same cells; neither may be empty."""
    pairs = _merge_small([(r, q) for r, q in zip(recent, reference, strict=True) if r or q])
    return {name: statistic(pairs) for name, statistic in STATISTICS.items()}


def _merge_small(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merge the cells that are too small for the chi-square test."""
    totals = [sum(column) for column in zip(*pairs, strict=True)]
    share = min(totals) / sum(totals)
    large = [pair for pair in pairs if sum(pair) * share >= MIN_EXPECTED_ROWS]
    small = [pair for pair in pairs if sum(pair) * share < MIN_EXPECTED_ROWS]
    return [*large, (sum(r for r, _ in small), sum(q for _, q in small))] if small else large


def _drift(counts: _Counts, level: float) -> Drift:
    recent_rows = counts.recent()
    statistics = compare(recent_rows, counts.cells.rows)
    recent, reference = _shares(recent_rows), _shares(counts.cells.rows)
    return Drift(
        quantity=counts.quantity.name,
        title=counts.quantity.title,
        psi=statistics["psi"],
        p_value=statistics["p_value"],
        statistics=statistics,
        alarm=statistics["p_value"] < level and statistics["psi"] >= MIN_PSI,
        says=_sentence(counts, recent, reference, sum(recent_rows)),
        cells=counts.cells.names,
        recent=recent,
        reference=reference,
    )


def _shares(counts: Sequence[int]) -> tuple[float, ...]:
    total = sum(counts)
    return tuple(count / total for count in counts)


def _sentence(counts: _Counts, recent: Sequence[float], reference: Sequence[float], n_recent: int) -> str:
    """Describe the part of the distribution that changed most, in the recent texts and in the calibration rows."""
    cells = counts.cells
    if cells.edges:
        recent, reference = tuple(accumulate(recent)), tuple(accumulate(reference))
    # Two cells change by the same amount, so the second is described.
    candidates = range(1, 2) if len(cells.names) == 2 and not cells.edges else range(len(recent))
    most = max(candidates, key=lambda cell: abs(recent[cell] - reference[cell]))
    return (
        f"{recent[most]:.0%} of the last {n_recent} texts {counts.quantity.phrase(cells, most)}, compared with "
        f"{reference[most]:.0%} of the calibration rows"
    )


def _edge(cells: Cells, cell: int) -> str:
    """The upper end of a cell. The last cell has none, but its accumulated share is always 1, so it is never described."""
    return cells.edges[cell] if cell < len(cells.edges) else "any"


def chi_square_tail(statistic: float, freedom: int) -> float:
    """The probability that a chi-square variable of that many degrees of freedom is larger than `statistic`.

    By its finite sums (Abramowitz and Stegun 1964, 26.4.4 and 26.4.5).
    """
    half = statistic / 2
    if freedom % 2:
        total, term, first = math.erfc(math.sqrt(half)), 2 * math.sqrt(half / math.pi) * math.exp(-half), 3
    else:
        total, term, first = math.exp(-half), half * math.exp(-half), 4
    for degree in range(first, freedom + 1, 2):
        total += term
        term *= statistic / degree
    return min(1.0, total)
