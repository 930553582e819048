"""Whether recent texts still look like the calibration rows: what the bundle promises holds for such texts alone.

Four things are watched: the share below the bundle's threshold, the confidences, the predicted labels and the token
lengths. An alarm needs both a difference that chance does not explain and one that is large enough to matter.
"""

import math
from collections import deque
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Literal

import msgspec

from hybrid.runtime.bundle import Bundle
from hybrid.runtime.calibration_reference import Histogram, Reference
from serving.types import Answer

Quantity = Literal["escalated", "confidence", "labels", "tokens"]

BLOCK = 250
"""Texts between two looks."""
BLOCKS = 4
"""Blocks in the window, so that four looks see each text."""
FALSE_ALARMS = 0.001
"""The probability that a window of traffic like the calibration rows raises any alarm at all, over the draw of both,
where texts come independently of each other. Divided by the quantities and the looks (Bonferroni)."""
WORTH_A_LOOK = 0.1
"""The index below which no difference is worth an alarm, however sure it is (see `Comparison.psi`)."""
MOST_LABELS = 32
"""Labels with a cell of their own; the rarer ones share one."""
OTHER = "other"


class Drift(msgspec.Struct, frozen=True, kw_only=True):
    """How one quantity of the recent texts differs from the calibration rows."""

    quantity: Quantity
    psi: float
    p_value: float
    alarm: bool
    says: str
    """What moved and how, in a sentence."""
    cells: tuple[str, ...]
    recent: tuple[float, ...]
    """Shares by cell; those of the calibration rows are in `reference`."""
    reference: tuple[float, ...]


class _Watched(msgspec.Struct, kw_only=True):
    """One quantity: the counts of the calibration rows, and those of the block that fills."""

    quantity: Quantity
    cells: tuple[str, ...]
    edges: tuple[str, ...] = ()
    """Between the cells, where they have an order."""
    reference: tuple[int, ...]
    block: list[int]
    blocks: deque[tuple[int, ...]]

    def recent(self) -> tuple[int, ...]:
        return tuple(map(sum, zip(*self.blocks, strict=True)))


class DriftWatch:
    """The recent texts of one bundle. `note` costs the same however many were seen."""

    def __init__(self, bundle: Bundle, reference: Reference) -> None:
        """Start with no text seen."""
        self.found: tuple[Drift, ...] = ()
        """Of the last look; empty before the first."""
        self.n_recent = 0
        """Texts that the last look saw."""
        self._threshold = bundle.threshold.value
        self._confidence, self._tokens = reference.confidence, reference.tokens
        kept = reference.n_rows - reference.escalated
        self._escalated = _watched("escalated", ["kept", "below the threshold"], [kept, reference.escalated])
        edges = [f"{edge:.3f}" for edge in reference.confidence.edges]
        self._confidences = _of_histogram("confidence", reference.confidence, edges)
        self._labels = _of_labels(reference.labels)
        self._label_cell = {name: cell for cell, name in enumerate(self._labels.cells[:-1])}
        self._all = [self._escalated, self._confidences, self._labels]
        if self._tokens:
            # An edge may stand between two whole numbers.
            self._lengths = _of_histogram("tokens", self._tokens, [str(math.ceil(e)) for e in self._tokens.edges])
            self._all.append(self._lengths)
        self._seen = 0

    def note(self, answers: Sequence[Answer]) -> bool:
        """Count the encoder's answers; return whether a block is full and `found` is new."""
        looked = False
        for answer in answers:
            confidence = answer.encoder_confidence
            self._escalated.block[confidence < self._threshold] += 1
            self._confidences.block[self._confidence.cell(confidence)] += 1
            self._labels.block[self._label_cell.get(answer.encoder_label, -1)] += 1
            if self._tokens:
                self._lengths.block[self._tokens.cell(answer.tokens)] += 1
            self._seen += 1
            if self._seen % BLOCK == 0:
                self._look()
                looked = True
        return looked

    def _look(self) -> None:
        level = FALSE_ALARMS / (len(self._all) * BLOCKS)
        for one in self._all:
            one.blocks.append(tuple(one.block))
            one.block = [0] * len(one.block)
        self.n_recent = min(self._seen, BLOCK * BLOCKS)
        self.found = tuple(_judged(one, level) for one in self._all)


def _watched(quantity: Quantity, cells: Sequence[str], reference: Sequence[int], edges: Sequence[str] = ()) -> _Watched:
    return _Watched(
        quantity=quantity,
        cells=tuple(cells),
        edges=tuple(edges),
        reference=tuple(reference),
        block=[0] * len(cells),
        blocks=deque(maxlen=BLOCKS),
    )


def _of_labels(labels: dict[str, int]) -> _Watched:
    frequent = list(labels.items())[:MOST_LABELS]
    rest = sum(labels.values()) - sum(rows for _, rows in frequent)
    return _watched("labels", [*(name for name, _ in frequent), OTHER], [*(rows for _, rows in frequent), rest])


def _of_histogram(quantity: Quantity, histogram: Histogram, edges: Sequence[str]) -> _Watched:
    inner = [f"{low} to {high}" for low, high in pairwise(edges)]
    cells = [f"below {edges[0]}", *inner, f"{edges[-1]} and more"] if edges else ["all"]
    return _watched(quantity, cells, histogram.rows, edges)


def _judged(watched: _Watched, level: float) -> Drift:
    counts = watched.recent()
    compared = compare(counts, watched.reference)
    recent, reference = _shares(counts), _shares(watched.reference)
    return Drift(
        quantity=watched.quantity,
        psi=compared.psi,
        p_value=compared.p_value,
        alarm=compared.p_value < level and compared.psi >= WORTH_A_LOOK,
        says=_say(watched, recent, reference, sum(counts)),
        cells=watched.cells,
        recent=recent,
        reference=reference,
    )


def _shares(counts: Sequence[int]) -> tuple[float, ...]:
    total = sum(counts)
    return tuple(count / total for count in counts)


def _say(watched: _Watched, recent: Sequence[float], reference: Sequence[float], n_recent: int) -> str:
    """Return the part of the distribution that moved most, before and now."""
    if watched.edges:
        recent, reference = tuple(accumulate(recent)), tuple(accumulate(reference))
    cells = range(1, 2) if watched.quantity == "escalated" else range(len(recent))
    most = max(cells, key=lambda cell: abs(recent[cell] - reference[cell]))
    what = {
        "escalated": "are below the threshold",
        "labels": f"are called {watched.cells[most]!r}",
        "confidence": f"have a confidence below {_edge(watched, most)}",
        "tokens": f"have fewer than {_edge(watched, most)} tokens",
    }[watched.quantity]
    return (
        f"{recent[most]:.0%} of the last {n_recent} texts {what}; of the calibration rows it was {reference[most]:.0%}"
    )


def _edge(watched: _Watched, cell: int) -> str:
    """Return where a cell ends; the last one, which does not, differs from nothing and is only named for itself."""
    return watched.edges[cell] if cell < len(watched.edges) else "any"


FEWEST = 5.0
"""Cells with fewer rows expected in the smaller sample are put together (Cochran 1954, "Some methods for
strengthening the common chi-square tests")."""
PSI_SMOOTHING = 0.5
"""Added to each cell of the index, so that the logarithm of an empty one is finite."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two histograms over the same cells, held against each other."""

    psi: float
    """Population stability index: the sum of (p - q) ln(p / q). By the rule of the field's scorecards below 0.1 is no
    change worth a look, and above 0.25 a great one (Siddiqi 2006, "Credit risk scorecards")."""
    p_value: float
    """Of Pearson's chi-square test of homogeneity; 1 where only one cell has rows."""


def compare(recent: Sequence[int], reference: Sequence[int]) -> Comparison:
    """Return how far apart two samples of counts over the same cells are; neither may be empty."""
    pairs = _joined([(r, q) for r, q in zip(recent, reference, strict=True) if r or q])
    n_recent, n_reference = sum(r for r, _ in pairs), sum(q for _, q in pairs)
    if len(pairs) < 2:
        return Comparison(psi=0.0, p_value=1.0)
    statistic = sum(
        (r * math.sqrt(n_reference / n_recent) - q * math.sqrt(n_recent / n_reference)) ** 2 / (r + q) for r, q in pairs
    )
    return Comparison(psi=_psi(pairs), p_value=chi_square_tail(statistic, len(pairs) - 1))


def _joined(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the cells with those too small for the test put together."""
    totals = [sum(column) for column in zip(*pairs, strict=True)]
    share = min(totals) / sum(totals)
    large = [pair for pair in pairs if sum(pair) * share >= FEWEST]
    small = [pair for pair in pairs if sum(pair) * share < FEWEST]
    return [*large, (sum(r for r, _ in small), sum(q for _, q in small))] if small else large


def _psi(pairs: Sequence[tuple[int, int]]) -> float:
    recent = [r + PSI_SMOOTHING for r, _ in pairs]
    reference = [q + PSI_SMOOTHING for _, q in pairs]
    n_recent, n_reference = sum(recent), sum(reference)
    shares = [(r / n_recent, q / n_reference) for r, q in zip(recent, reference, strict=True)]
    return sum((p - q) * math.log(p / q) for p, q in shares)


def chi_square_tail(statistic: float, freedom: int) -> float:
    """Return the probability that a chi-square of so many degrees of freedom is larger.

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
