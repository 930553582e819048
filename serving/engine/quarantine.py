"""Texts that were in the engine when it died: one that was there twice is not tried a third time."""

import time
from collections import OrderedDict
from collections.abc import Sequence

MOST_DEATHS = 2
FORGIVEN_AFTER_S = 600.0
"""An engine may be killed from outside, twice, with the same innocent text in hand."""
REMEMBERED = 1000
"""Texts."""


class Quarantine:
    """Counts deaths by text. Texts are kept as the hash of their tokens."""

    def __init__(self) -> None:
        self._deaths: OrderedDict[int, dict[int, float]] = OrderedDict()

    def note(self, ids: Sequence[int], death: int) -> None:
        """Note that the engine died with this text in hand; however often it was there, it was one death."""
        self._deaths.setdefault(hash(tuple(ids)), {})[death] = time.monotonic()
        while len(self._deaths) > REMEMBERED:
            self._deaths.popitem(last=False)

    def forgive(self, ids: Sequence[int]) -> None:
        """Note that the engine answered this text."""
        if self._deaths:
            self._deaths.pop(hash(tuple(ids)), None)

    def holds(self, ids: Sequence[int]) -> bool:
        """Return whether the engine died of this text as often as it may."""
        if not self._deaths:
            return False
        oldest = time.monotonic() - FORGIVEN_AFTER_S
        return sum(at > oldest for at in self._deaths.get(hash(tuple(ids)), {}).values()) >= MOST_DEATHS
