"""What one way of asking came to: accuracy, how well it knows when it is right, and what it costs."""

from collections.abc import Sequence

import msgspec
import numpy as np

from hybrid.evaluation.intervals import Estimate, auroc_interval, share_interval, worse_p
from hybrid.teacher.pilot.baseline_curve import Baseline, adds_information_p, surety_of, worth_in_rows
from hybrid.teacher.pilot.strategies import Answer, Answers, PromptStrategy, what_it_says
from hybrid.types import Example, Row


class Measured(Row, frozen=True, kw_only=True):
    """The figures of one way on the pilot's rows; what cannot be known is None."""

    model: str
    answer: Answer
    votes: int
    answered: float
    """The share of rows for which it gave a label of the set."""
    accuracy: Estimate
    """Over all rows: a row without a label counts as wrong."""
    auroc_confidence: Estimate | None
    """How well the stated confidence ranks right answers above wrong ones."""
    auroc_share: Estimate | None
    """The same of the share of votes for the label; None with one vote."""
    tokens_a_row: float
    cost_usd_a_row: float | None
    """None where a price is not known."""
    cost_usd_job: float | None
    """For every training row of the recipe."""
    seconds_a_row: float
    seconds_job: float
    """With as many requests at a time as the recipe asks at once."""
    worth_rows: int | None
    """With about how many labelled rows TF-IDF is as accurate; None: with more than are at hand."""
    beats_given_p: float
    """The exact one-sided paired test that it is more accurate than the given labels."""
    adds_information_p: float
    """The paired test that its answers tell wrong given labels from right ones beyond what TF-IDF does."""
    first_failure: str = ""

    @property
    def way(self) -> PromptStrategy:
        """The way that was measured."""
        return PromptStrategy(model=self.model, answer=self.answer, votes=self.votes)


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """A way's figures, and on which rows [n] it was right."""

    measured: Measured
    right: np.ndarray


def measure(
    answers: Answers, rows: Sequence[Example], trusted: dict[str, str], found: Baseline, *, n_job: int, workers: int
) -> Trial:
    """Return what a way came to; `n_job` is the number of training rows, `workers` how many are asked at once."""
    said, way = what_it_says(answers), answers.way
    right = np.array([label == trusted[row.id] for label, row in zip(said.labels, rows, strict=True)])
    spoke = np.array([label is not None for label in said.labels])
    share = share_interval(int(right.sum()), len(right))
    replies = [reply for of_row in answers.replies for reply in of_row]
    costs = [reply.cost_usd for reply in replies]
    cost = None if None in costs else sum(cost or 0.0 for cost in costs) / len(rows)
    seconds = sum(reply.seconds for reply in replies) / len(rows)
    given = [row.label for row in rows]
    measured = Measured(
        model=way.model,
        answer=way.answer,
        votes=way.votes,
        answered=float(spoke.mean()),
        accuracy=share,
        auroc_confidence=_auroc(said.confidence, right),
        auroc_share=_auroc(said.share, right),
        tokens_a_row=sum(reply.input_tokens + reply.output_tokens for reply in replies) / len(rows),
        cost_usd_a_row=cost,
        cost_usd_job=None if cost is None else cost * n_job,
        seconds_a_row=seconds,
        seconds_job=seconds * n_job / workers,
        worth_rows=worth_in_rows(share.value, found),
        beats_given_p=worse_p(found.given_right, right),
        adds_information_p=adds_information_p(said.labels, surety_of(said), given, found),
        first_failure=next((vote.reason for votes in answers.votes for vote in votes if vote.status != "ok"), ""),
    )
    return Trial(measured=measured, right=right)


def _auroc(score: np.ndarray, right: np.ndarray) -> Estimate | None:
    known = ~np.isnan(score)
    return auroc_interval(score[known], right[known]) if known.any() else None
