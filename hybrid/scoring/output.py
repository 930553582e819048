"""An output that is to be made: its files, its plan, its parts."""

from collections.abc import Callable, Iterable

import msgspec

from hybrid.scoring.job import FilePair, Job
from hybrid.scoring.parts import Parts, read_finished
from hybrid.scoring.plan import Plan
from hybrid.scoring.tally import Tally

Answer = Callable[["Output", list[int]], Iterable[Tally]]
"""Has the parts of these numbers written, and yields their tallies in any order."""


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """An output that is to be made."""

    job: Job
    pairs: list[FilePair]
    plan: Plan
    parts: Parts

    def finished(self) -> Tally | None:
        """Return the tally if the output is there already."""
        finished = read_finished(self.job.target, self.pairs)
        return finished.tally if finished and finished.is_of(self.plan.made) else None
