"""What each step was worth: one line a step, in the order of the story."""

from collections.abc import Mapping
from typing import Any

import msgspec

from hybrid.types import Report

_NAMES = {
    "given": "labels as given",
    "cleaned": "cleaned labels",
    "cleaned_synthetic": "cleaned labels and drafts",
    "given_synthetic": "labels as given and drafts",
    "gold": "gold labels, the ceiling",
    "without_twins": "without rows that have a near-copy in train",
}


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step: a figure without it, and with it."""

    name: str
    measure: str
    before: float | None
    after: float | None
    shares: bool = False
    """Whether the figures are shares, which read as percentages."""

    @property
    def change(self) -> str:
        """The difference as shown, in points of a hundred for shares; empty where one figure is unknown."""
        if self.before is None or self.after is None:
            return ""
        difference = round(self.after, 3) - round(self.before, 3)  # so that a reader's own sum comes out
        if not difference:
            return "none"
        shown = f"{100 * difference:+.1f} points" if self.shares else f"{difference:+.3f}"
        return shown.replace("-", "−")


def variant_name(variant: str) -> str:
    """Return a variant of `summary["test"]` in words."""
    if variant.startswith("tfidf_"):
        return f"TF-IDF, {_NAMES[variant.removeprefix('tfidf_')].split(',')[0]}"
    return _NAMES[variant]


def steps(summary: Report, reports: Mapping[str, Report]) -> list[Step]:
    """Return the steps that this run has figures for."""
    labels, test, served = summary["labels"], summary["test"], summary["served"]
    calibration, threshold = summary["calibration"], summary["threshold"]["test"]
    found = []
    if labels["wrong_given"] is not None:
        found.append(
            Step(
                name="Clean the labels",
                measure="wrong training labels",
                before=labels["wrong_given"],
                after=labels["wrong_cleaned"],
                shares=True,
            )
        )
    plain = test.get("tfidf_given" if served.startswith("given") else "tfidf_cleaned")
    pairs = [
        ("Fine-tune an encoder, not TF-IDF", plain, test[served]),
        ("Train on cleaned labels", test.get("given"), test.get("cleaned")),
        ("Add the accepted drafts", test.get("cleaned"), test.get("cleaned_synthetic")),
    ]
    found += [_f1(name, before, after) for name, before, after in pairs if before and after]
    found.append(
        Step(
            name=f"Calibrate ({calibration['method']})",
            measure="negative log-likelihood on test",
            before=calibration["nll_before"],
            after=calibration["nll_after"],
        )
    )
    if threshold["answered"]:
        evaluated = reports["evaluate"]["encoder"]
        found.append(
            Step(
                name=f"Escalate {threshold['escalated']:,} rows to the {decoder_name(summary)}",
                measure="accuracy on test",
                before=evaluated["accuracy"],
                after=threshold["accuracy"],
                shares=True,
            )
        )
    return found


def decoder_name(summary: Report) -> str:
    """Return how the page calls the model that escalated rows go to."""
    recorded = "decoder" in summary["llm"]["recorded"]
    return "recorded decoder" if recorded else f"decoder {summary['llm']['decoder']}"


def _f1(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Step:
    return Step(name=name, measure="macro-F1 on test", before=before["macro_f1"], after=after["macro_f1"])
