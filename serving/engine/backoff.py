"""How long an engine that keeps dying is left alone."""

from collections.abc import Sequence

AT_ONCE = 2
"""Deaths that are mended without a pause: a text that kills the engine does so twice before it is known."""
LATELY_S = 60.0
LONGEST_S = 10.0
"""A machine that was mended waits no longer than this for its engine."""
FIRST_S = 0.25


def pause_s(deaths: Sequence[float], now: float) -> float:
    """Return the seconds to wait before the next start, after deaths at those times (`time.monotonic()`)."""
    lately = sum(now - death < LATELY_S for death in deaths)
    if lately <= AT_ONCE:
        return 0.0
    return min(LONGEST_S, FIRST_S * 2.0 ** (lately - AT_ONCE - 1))
