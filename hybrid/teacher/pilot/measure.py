"""Measure one prompt strategy: accuracy, how well its confidence ranks right answers, and cost."""

from collections.abc import Sequence

import msgspec
import numpy as np

from hybrid.evaluation.intervals import Estimate, auroc_interval, share_interval, worse_p
from hybrid.teacher.pilot.baseline_curve import Baseline, adds_information_p, confidence_of, equivalent_rows
from hybrid.teacher.pilot.strategies import Answer, Answers, PromptStrategy, combine_votes
from hybrid.types import Example, Row


class Measured(Row, frozen=True, kw_only=True):
    """The figures of one strategy on the pilot's rows; a figure that cannot be known is None."""

    model: str
    answer: Answer
    votes: int
    answered: float
    """The share of rows for which the strategy gave a label of the set."""
    accuracy: Estimate
    """Accuracy over all rows; a row without a label counts as wrong."""
    auroc_confidence: Estimate | None
    """How well the stated confidence ranks right answers above wrong ones."""
    auroc_share: Estimate | None
    """How well the share of votes for the label ranks right answers; None with a single vote."""
    tokens_a_row: float
    cost_usd_a_row: float | None
    """None if a price is unknown."""
    cost_usd_job: float | None
    """The cost for all training rows of the recipe."""
    seconds_a_row: float
    seconds_job: float
    """The time for all training rows, with the number of parallel requests that the recipe sets."""
    worth_rows: int | None
    """About how many labelled rows TF-IDF needs to be as accurate; None: more than there are."""
    beats_given_p: float
    """The p-value of the exact one-sided paired test that it is more accurate than the given labels."""
    adds_information_p: float
    """The p-value of the paired test that its answers tell wrong given labels from right ones better than TF-IDF."""
    first_failure: str = ""

    @property
    def strategy(self) -> PromptStrategy:
        """The strategy that was measured."""
        return PromptStrategy(model=self.model, answer=self.answer, votes=self.votes)


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """The figures of a strategy, and a mask [n] of the rows it got right."""

    measured: Measured
    right: np.ndarray


def measure(
    answers: Answers, rows: Sequence[Example], trusted: dict[str, str], baseline: Baseline, *, n_job: int, workers: int
) -> Trial:
    """Measure a strategy; `n_job` is the number of training rows, `workers` the number of parallel requests."""
    combined, strategy = combine_votes(answers), answers.strategy
    right = np.array([label == trusted[row.id] for label, row in zip(combined.labels, rows, strict=True)])
    answered = np.array([label is not None for label in combined.labels])
    accuracy = share_interval(int(right.sum()), len(right))
    replies = [reply for of_row in answers.replies for reply in of_row]
    costs = [reply.cost_usd for reply in replies]
    cost = None if None in costs else sum(cost or 0.0 for cost in costs) / len(rows)
    seconds = sum(reply.seconds for reply in replies) / len(rows)
    given = [row.label for row in rows]
    measured = Measured(
        model=strategy.model,
        answer=strategy.answer,
        votes=strategy.votes,
        answered=float(answered.mean()),
        accuracy=accuracy,
        auroc_confidence=_auroc(combined.confidence, right),
        auroc_share=_auroc(combined.share, right),
        tokens_a_row=sum(reply.input_tokens + reply.output_tokens for reply in replies) / len(rows),
        cost_usd_a_row=cost,
        cost_usd_job=None if cost is None else cost * n_job,
        seconds_a_row=seconds,
        seconds_job=seconds * n_job / workers,
        worth_rows=equivalent_rows(accuracy.value, baseline),
        beats_given_p=worse_p(baseline.given_right, right),
        adds_information_p=adds_information_p(combined.labels, confidence_of(combined), given, baseline),
        first_failure=next((vote.reason for votes in answers.votes for vote in votes if vote.status != "ok"), ""),
    )
    return Trial(measured=measured, right=right)


def _auroc(score: np.ndarray, right: np.ndarray) -> Estimate | None:
    known = ~np.isnan(score)
    return auroc_interval(score[known], right[known]) if known.any() else None
