"""The rule by which the pilot chooses."""

from collections.abc import Sequence

from hybrid.evaluation.intervals import worse_p
from hybrid.teacher.pilot.measure import Measured, Trial
from hybrid.teacher.pilot.strategies import PromptStrategy
from hybrid.types import Row

LEVEL = 0.05
ENOUGH_ANSWERED = 0.95
RULE = (
    "Of the ways that answer at least 95 % of the rows, take the cheapest whose accuracy is not significantly below "
    "the most accurate one's (exact paired test, one-sided, 5 %). Ask it only if it is significantly more accurate than "
    "the given labels, or if its answers tell wrong given labels from right ones better than TF-IDF on the rows at hand "
    "does alone (paired test of cross-fitted log losses, 5 %)."
)


class Choice(Row, frozen=True, kw_only=True):
    """The way that the rule takes, and whether asking it pays."""

    way: PromptStrategy | None
    """None where no way answers enough rows."""
    ask: bool
    best: PromptStrategy | None
    below_best_p: dict[str, float]
    """By the way, as `model: way`: the exact one-sided paired test that it is less accurate than the best."""
    reason: str
    rule: str = RULE


def choose(trials: Sequence[Trial]) -> Choice:
    """Return what `RULE` says of the ways. Among equal prices the faster is cheaper; where one is unknown, tokens count."""
    able = [trial for trial in trials if trial.measured.answered >= ENOUGH_ANSWERED]
    if not able:
        reason = f"no way answers {ENOUGH_ANSWERED:.0%} of the rows; the first failure: {_failure(trials)}"
        return Choice(way=None, ask=False, best=None, below_best_p={}, reason=reason)
    best = max(able, key=lambda trial: (trial.measured.accuracy.value, -trial.measured.seconds_a_row))
    below = {title(trial.measured): worse_p(trial.right, best.right) for trial in able}
    close = [trial for trial in able if below[title(trial.measured)] >= LEVEL]
    priced = all(trial.measured.cost_usd_a_row is not None for trial in close)
    taken = min(close, key=lambda trial: _price(trial.measured, priced=priced)).measured
    ask = taken.beats_given_p < LEVEL or taken.adds_information_p < LEVEL
    return Choice(
        way=taken.way, ask=ask, best=best.measured.way, below_best_p=below, reason=_reason(taken, best.measured)
    )


def title(measured: Measured) -> str:
    """Return a way's name with its model's."""
    return f"{measured.model}: {measured.way.name}"


def _price(measured: Measured, *, priced: bool) -> tuple[float, float]:
    cost = measured.cost_usd_a_row if priced else measured.tokens_a_row
    return cost or 0.0, measured.seconds_a_row


def _reason(taken: Measured, best: Measured) -> str:
    first = (
        "it is the most accurate"
        if taken.way == best.way
        else f"it is cheaper than the most accurate ({title(best)}) and not significantly below it"
    )
    if taken.beats_given_p < LEVEL:
        return f"{first}; it is more accurate than the given labels (p = {taken.beats_given_p:.2g})"
    if taken.adds_information_p < LEVEL:
        return (
            f"{first}; it does not beat the given labels, but tells wrong ones from right ones beyond what TF-IDF does "
            f"(p = {taken.adds_information_p:.2g})"
        )
    return (
        f"{first}; but it neither beats the given labels (p = {taken.beats_given_p:.2g}) nor tells wrong ones from right "
        f"ones beyond what TF-IDF does (p = {taken.adds_information_p:.2g})"
    )


def _failure(trials: Sequence[Trial]) -> str:
    return next((trial.measured.first_failure for trial in trials if trial.measured.first_failure), "none was given")
