"""The thresholds of the tree, and the assumptions behind its costs, in one table each with its reason."""

import msgspec


class Threshold(msgspec.Struct, frozen=True):
    """A number that decides a branch."""

    value: float
    reason: str


THRESHOLDS = {
    "level": Threshold(
        0.05, "the usual level of a test: one advice in twenty would find a difference where there is none"
    ),
    "train_rows": Threshold(
        200,
        "a promise of 90 % with probability 90 % needs 22 calibration rows without an error, and 15 % of 200 rows are 30; "
        "with fewer rows the 95 % interval of an accuracy is wider than 7 points on either side, so nothing can be judged",
    ),
    "rows_a_label": Threshold(
        8, "with fewer rows of a label some folds of a cross-validation train on none or score none of it"
    ),
    "noise": Threshold(
        0.40, "where two of five labels are wrong, training and scoring follow the errors as much as the labels"
    ),
    "estimated_noise": Threshold(
        0.50,
        "confident learning counts rows that are merely hard as wrong, so that its estimate decides only where it says "
        "that most labels are wrong",
    ),
    "pilot_rows": Threshold(
        30, "with fewer trusted rows the 95 % interval of an accuracy is wider than 18 points on either side"
    ),
    "further_rows": Threshold(500, "what a person labels in one or two days"),
}
"""What decides a branch, by name."""
CORE_USD_PER_HOUR = 0.05
"""The assumed price of a processor core: what large clouds ask for one on demand, rounded up. `--core-usd-hour` sets it."""
MOST_ROWS = 4000
"""The training rows that are measured; of more a sample is drawn, because figures of 4,000 rows are within 1.6 points."""


def value(name: str) -> float:
    """The threshold of that name."""
    return THRESHOLDS[name].value
