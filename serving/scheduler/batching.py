"""Which rows run together: the oldest first, then those of the nearest lengths."""

from collections.abc import Mapping

CALL_TOKENS = 16
"""What a call of the session costs beside its tokens, in tokens: 2 ms to 0.09 to 0.14 ms a token (MiniLM int8). A row
joins where the padding that it brings is cheaper than a call of its own."""


def batch_of(waiting: Mapping[int, int], oldest: int, most_tokens: int) -> dict[int, int]:
    """Return how many rows of each length the next batch has, given how many of each length wait.

    The first is of the length `oldest`. A row that alone is over `most_tokens` padded tokens runs alone.
    """
    taken = {oldest: 1}
    n, longest = 1, oldest
    for length in sorted((length for length in waiting if waiting[length]), key=lambda other: abs(other - oldest)):
        left = waiting[length] - taken.get(length, 0)
        while left:
            grown = max(longest, length)
            tokens = (n + 1) * grown
            if tokens > most_tokens:
                break
            if tokens - n * longest > length + CALL_TOKENS:
                break
            taken[length] = taken.get(length, 0) + 1
            n, longest, left = n + 1, grown, left - 1
    return taken
