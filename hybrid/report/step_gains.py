"""The gain of each step of a run: one line per step, in the order of the stages."""

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
    "without_twins": "without test rows that have a near-duplicate in train",
}


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One step: a figure without it and with it."""

    name: str
    measure: str
    before: float | None
    after: float | None
    shares: bool = False
    """Whether the figures are shares, shown as percentages."""

    @property
    def change(self) -> str:
        """The difference as shown, in percentage points for shares; empty where a figure is unknown."""
        if self.before is None or self.after is None:
            return ""
        difference = round(self.after, 3) - round(self.before, 3)  # the difference of the figures as shown
        if not difference:
            return "none"
        shown = f"{100 * difference:+.1f} points" if self.shares else f"{difference:+.3f}"
        return shown.replace("-", "−")


def variant_name(variant: str) -> str:
    """Name a variant of `summary["test"]` in words."""
    if variant.startswith("tfidf_"):
        return f"TF-IDF, {_NAMES[variant.removeprefix('tfidf_')].split(',')[0]}"
    return _NAMES[variant]


def steps(summary: Report, reports: Mapping[str, Report]) -> list[Step]:
    """List the steps for which this run has figures."""
    labels, test, served = summary["labels"], summary["test"], summary["served"]
    calibration, threshold = summary["calibration"], summary["threshold"]["test"]
    gains = []
    if labels["wrong_given"] is not None:
        gains.append(
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
        ("Fine-tune an encoder instead of TF-IDF", plain, test[served]),
        ("Train on cleaned labels", test.get("given"), test.get("cleaned")),
        ("Add the accepted drafts", test.get("cleaned"), test.get("cleaned_synthetic")),
    ]
    gains += [_f1(name, before, after) for name, before, after in pairs if before and after]
    gains.append(
        Step(
            name=f"Calibrate ({calibration['method']})",
            measure="negative log-likelihood on test",
            before=calibration["nll_before"],
            after=calibration["nll_after"],
        )
    )
    if threshold["answered"]:
        encoder = reports["evaluate"]["encoder"]
        gains.append(
            Step(
                name=f"Escalate {threshold['escalated']:,} rows to the {decoder_name(summary)}",
                measure="accuracy on test",
                before=encoder["accuracy"],
                after=threshold["accuracy"],
                shares=True,
            )
        )
    return gains


def decoder_name(summary: Report) -> str:
    """Name the model that escalated rows go to, as the page and the cards do."""
    recorded = "decoder" in summary["llm"]["recorded"]
    return "recorded decoder" if recorded else f"decoder {summary['llm']['decoder']}"


def _f1(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Step:
    return Step(name=name, measure="macro-F1 on test", before=before["macro_f1"], after=after["macro_f1"])
