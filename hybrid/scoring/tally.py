"""The counts of rows by outcome."""

from collections import Counter
from collections.abc import Sequence

import msgspec

from hybrid.scoring.rows import Problem
from hybrid.types import Prediction


class Tally(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of rows by outcome: the labels and the bad rows add up to all rows."""

    rows: int = 0
    escalate: int = 0
    truncated: int = 0
    bad: int = 0
    """Rows that could not be read and have no answer."""
    labels: dict[str, int] = {}
    """The number of answers by label."""

    def __add__(self, other: "Tally") -> "Tally":
        """Return the sum of both tallies."""
        return Tally(
            rows=self.rows + other.rows,
            escalate=self.escalate + other.escalate,
            truncated=self.truncated + other.truncated,
            bad=self.bad + other.bad,
            labels=dict(Counter(self.labels) + Counter(other.labels)),
        )


def tally_of(answers: Sequence[Prediction | Problem]) -> Tally:
    """Count answers by their outcome."""
    predictions = [answer for answer in answers if isinstance(answer, Prediction)]
    n_rows = len(answers)
    return Tally(
        rows=n_rows,
        escalate=sum(prediction.escalate for prediction in predictions),
        truncated=sum(prediction.truncated for prediction in predictions),
        bad=n_rows - len(predictions),
        labels=dict(Counter(prediction.label for prediction in predictions)),
    )
