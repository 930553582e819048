"""Whether two samples of counts come from one distribution, and how far they are apart."""

import math
from collections.abc import Sequence

import msgspec

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
