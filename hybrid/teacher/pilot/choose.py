"""Choose a prompt strategy from the pilot's measurements."""

from collections.abc import Sequence

from hybrid.evaluation.intervals import worse_p
from hybrid.teacher.pilot.measure import Measured, Trial
from hybrid.teacher.pilot.strategies import PromptStrategy
from hybrid.types import Row

LEVEL = 0.05
ENOUGH_ANSWERED = 0.95
RULE = (
    "Of the strategies that answer at least 95 % of the rows, take the cheapest whose accuracy is not significantly below "
    "the most accurate one's (exact paired test, one-sided, 5 %). Ask it only if it is significantly more accurate than "
    "the given labels, or if its answers tell wrong given labels from right ones better than TF-IDF on the labelled rows "
    "does alone (paired test of cross-fitted log losses, 5 %)."
)


class Choice(Row, frozen=True, kw_only=True):
    """The strategy that the rule chooses, and whether using it pays."""

    way: PromptStrategy | None
    """The chosen strategy; None if none answers enough rows."""
    ask: bool
    """Whether the rule recommends asking the teacher at all."""
    best: PromptStrategy | None
    """The most accurate strategy."""
    below_best_p: dict[str, float]
    """By `model: strategy`: the p-value of the exact one-sided paired test that it is less accurate than the best."""
    reason: str
    rule: str = RULE


def choose(trials: Sequence[Trial]) -> Choice:
    """Apply `RULE`. The faster strategy wins among equal prices; if any price is unknown, tokens stand in for prices."""
    eligible = [trial for trial in trials if trial.measured.answered >= ENOUGH_ANSWERED]
    if not eligible:
        reason = f"no strategy answers {ENOUGH_ANSWERED:.0%} of the rows; the first failure: {_failure(trials)}"
        return Choice(way=None, ask=False, best=None, below_best_p={}, reason=reason)
    best = max(eligible, key=lambda trial: (trial.measured.accuracy.value, -trial.measured.seconds_a_row))
    p_below_best = {title(trial.measured): worse_p(trial.right, best.right) for trial in eligible}
    candidates = [trial for trial in eligible if p_below_best[title(trial.measured)] >= LEVEL]
    priced = all(trial.measured.cost_usd_a_row is not None for trial in candidates)
    chosen = min(candidates, key=lambda trial: _price(trial.measured, priced=priced)).measured
    ask = chosen.beats_given_p < LEVEL or chosen.adds_information_p < LEVEL
    return Choice(
        way=chosen.strategy,
        ask=ask,
        best=best.measured.strategy,
        below_best_p=p_below_best,
        reason=_reason(chosen, best.measured),
    )


def title(measured: Measured) -> str:
    """Name a strategy with its model, as `model: strategy`."""
    return f"{measured.model}: {measured.strategy.name}"


def _price(measured: Measured, *, priced: bool) -> tuple[float, float]:
    cost = measured.cost_usd_a_row if priced else measured.tokens_a_row
    return cost or 0.0, measured.seconds_a_row


def _reason(chosen: Measured, best: Measured) -> str:
    rank = (
        "it is the most accurate"
        if chosen.strategy == best.strategy
        else f"it is cheaper than the most accurate ({title(best)}) and not significantly below it"
    )
    if chosen.beats_given_p < LEVEL:
        return f"{rank}; it is more accurate than the given labels (p = {chosen.beats_given_p:.2g})"
    if chosen.adds_information_p < LEVEL:
        return (
            f"{rank}; it does not beat the given labels, but tells wrong ones from right ones beyond what TF-IDF does "
            f"(p = {chosen.adds_information_p:.2g})"
        )
    return (
        f"{rank}; but it neither beats the given labels (p = {chosen.beats_given_p:.2g}) nor tells wrong ones from right "
        f"ones beyond what TF-IDF does (p = {chosen.adds_information_p:.2g})"
    )


def _failure(trials: Sequence[Trial]) -> str:
    return next(
        (trial.measured.first_failure for trial in trials if trial.measured.first_failure), "no reason was given"
    )
