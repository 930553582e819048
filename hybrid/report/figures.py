"""The report's figures: inline SVG with the page's fonts and its light and dark colours.

The output is deterministic: it contains no dates and no random identifiers.
"""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from hybrid.evaluation.metrics import ReliabilityBin, RiskCoverage, reliability_bins, risk_coverage
from hybrid.evaluation.set_metrics import as_one_label
from hybrid.label_sets import index_by_label, label_matrix
from hybrid.report.step_gains import variant_name
from hybrid.runtime.calibration import Calibration, decide, sigmoid, softmax
from hybrid.types import Epoch, Judged, Report, Task

INK, SOFT, LINE, ACCENT, SECOND = "#010101", "#020202", "#030303", "#040404", "#050505"
"""Placeholders that are replaced by the page's CSS colours, so that one figure serves the light and the dark scheme."""
MOST_LABELS_DRAWN = 24
"""With more labels than this, the class balance is not drawn."""
Side = Literal["left", "center", "right"]
_VARIABLES = {INK: "ink", SOFT: "soft", LINE: "line", ACCENT: "accent", SECOND: "second"}
_STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # a dollar sign in a label does not start a formula
    "svg.fonttype": "none",
    "font.size": 9.5,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


def draw_all(
    summary: Report,
    reports: Mapping[str, Report],
    judged: Sequence[Judged],
    history: Sequence[Epoch],
    labels: Sequence[str],
    task: Task,
) -> dict[str, str | None]:
    """Draw every figure, by its name in `template.html`; None if the run has no data for it."""
    before, after = _bins(judged, labels, task)
    confidence = np.array([row.confidence for row in judged])
    correct = np.array([row.label == row.gold for row in judged])
    threshold, clean = summary["threshold"], reports["clean"]
    variants, interval = _variants(summary)
    drawn: dict[str, str | None] = {
        "balance": class_balance(clean["classes_before"], clean["classes_after"])
        if len(labels) <= MOST_LABELS_DRAWN
        else None,
        "losses": losses(history) if history else None,
        "validation": validation_f1(history) if history else None,
        "scores": scores(variants, interval),
        "reliability": reliability(before, after),
        "coverage": coverage(risk_coverage(confidence, correct), threshold["test"], target=threshold["target"]),
        "cascade": cascade(summary["cascade"], threshold["test"], len(judged)) if summary["cascade"] else None,
    }
    return drawn


def _bins(
    judged: Sequence[Judged], labels: Sequence[str], task: Task
) -> tuple[list[ReliabilityBin], list[ReliabilityBin]]:
    """Compute the bins of the reliability diagram before and after calibration."""
    logits = np.array([row.logits for row in judged], dtype=np.float64)
    if task == "multi_label":
        gold = label_matrix([row.gold for row in judged], labels)
        before = decide(Calibration(activation="sigmoid"), sigmoid(logits))
        confidence = np.array([row.confidence for row in judged])
        before_and_after = (
            (before.confidence, (before.chosen == gold).all(axis=1)),
            (confidence, np.array([row.label == row.gold for row in judged])),
        )
        first, second = (reliability_bins(*as_one_label(*pair)) for pair in before_and_after)
        return first, second
    position = index_by_label(labels)
    gold_indices = np.array([position[row.gold] for row in judged])
    probs = np.array([row.probs for row in judged])
    return reliability_bins(softmax(logits), gold_indices), reliability_bins(probs, gold_indices)


def _variants(summary: Report) -> tuple[dict[str, list[float]], tuple[str, list[float]] | None]:
    """Collect macro-F1 by variant and seed, and the bootstrap interval if there is only one seed."""
    test = {name: scores for name, scores in encoders_first(summary).items() if name != "without_twins"}
    served = test[summary["served"]]
    has_one_seed = len(summary["seeds"]) == 1
    return (
        {variant_name(name): scores["macro_f1_seeds"] for name, scores in test.items()},
        (variant_name(summary["served"]), served["macro_f1_interval"]) if has_one_seed else None,
    )


def encoders_first(summary: Report) -> dict[str, dict[str, Any]]:
    """Order the variants that have scores: the served one, the same without leaked rows, then the others, TF-IDF last."""
    test = {name: scores for name, scores in summary["test"].items() if scores}
    first = (summary["served"], "without_twins")
    order = sorted(test, key=lambda name: (name not in first, name.startswith("tfidf_"), name == "gold"))
    return {name: test[name] for name in order}


def class_balance(before: Mapping[str, int], after: Mapping[str, int]) -> str:
    """Draw the number of training rows by label as bars, as given and after cleaning."""

    def draw(axes: Axes) -> None:
        places = np.arange(len(before))
        axes.barh(places - 0.2, list(before.values()), 0.36, color=LINE, label="as given")
        axes.barh(places + 0.2, [after[label] for label in before], 0.36, color=ACCENT, label="after cleaning")
        axes.set_yticks(places, [_short(label) for label in before], color=INK)
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("training rows")
        _legend(axes, columns=2)

    return _svg(draw, "Training rows by label, before and after cleaning", height=1.5 + 0.42 * len(before))


def losses(history: Sequence[Epoch]) -> str:
    """Plot training and validation loss over the epochs."""

    def draw(axes: Axes) -> None:
        epochs = [point.epoch for point in history]
        axes.plot(epochs, [p.train_loss for p in history], "o-", color=SECOND, ms=4, label="training")
        axes.plot(epochs, [p.validation_loss for p in history], "o-", color=ACCENT, ms=4, label="validation")
        axes.set(xlabel="epoch", ylabel="loss")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _legend(axes, columns=2)

    return _svg(draw, "Training and validation loss by epoch")


def validation_f1(history: Sequence[Epoch]) -> str:
    """Plot macro-F1 on the validation rows over the epochs, with the chosen epoch marked."""

    def draw(axes: Axes) -> None:
        axes.plot(
            [p.epoch for p in history], [p.validation_macro_f1 for p in history], "o-", color=ACCENT, ms=4, label="all"
        )
        for best in (point for point in history if point.best):
            axes.plot(best.epoch, best.validation_macro_f1, "o", ms=11, mfc="none", mec=INK, mew=1.4, label="chosen")
            _note(axes, "chosen", best.epoch, best.validation_macro_f1, (0, 11))
        axes.margins(y=0.25)
        axes.set(xlabel="epoch", ylabel="macro-F1, validation")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    return _svg(draw, "Macro-F1 on the validation part of the training rows, by epoch")


def scores(variants: Mapping[str, Sequence[float]], interval: tuple[str, Sequence[float]] | None) -> str:
    """Plot macro-F1 by variant: a ring per seed, a dot for the mean, a bar for the bootstrap interval of a single seed."""

    def draw(axes: Axes) -> None:
        names = list(variants)
        for place, (name, seeds) in enumerate(variants.items()):
            colour = SECOND if name.startswith("TF-IDF") else ACCENT
            if interval and interval[0] == name:
                axes.plot(interval[1], [place, place], color=colour, lw=5, alpha=0.25, solid_capstyle="round")
            if len(seeds) > 1:
                axes.plot(seeds, [place] * len(seeds), "o", ms=6, mfc="none", mec=colour, mew=1)
            axes.plot(float(np.mean(seeds)), place, "o", ms=7, color=colour)
        axes.set_yticks(range(len(names)), [_short(name) for name in names], color=INK)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlabel("macro-F1 on the test rows")

    return _svg(draw, "Macro-F1 on test by what the model was trained on", height=1.0 + 0.36 * len(variants))


def reliability(before: Sequence[ReliabilityBin], after: Sequence[ReliabilityBin]) -> str:
    """Plot accuracy over confidence in equal-mass bins, before and after calibration."""

    def draw(axes: Axes) -> None:
        points = [*before, *after]
        low = min(min(p.confidence, p.accuracy) for p in points) - 0.03
        axes.plot([low, 1], [low, 1], color=SOFT, lw=1, ls=(0, (4, 3)))
        for bins, colour, name in ((before, SECOND, "before"), (after, ACCENT, "after")):
            axes.plot(
                [p.confidence for p in bins],
                [p.accuracy for p in bins],
                "o-" if name == "after" else "o--",
                color=colour,
                ms=4.5,
                lw=1.3,
                mfc=colour if name == "after" else "none",
                label=name,
            )
        axes.set(xlabel="confidence, mean of the bin", ylabel="accuracy of the bin", xlim=(low, 1.02))
        axes.set_ylim(low, 1.04)
        _legend(axes, columns=2)

    return _svg(draw, "Reliability diagram: accuracy over confidence, before and after calibration", height=3.6)


def coverage(curve: RiskCoverage, threshold: Mapping[str, Any], target: float) -> str:
    """Plot the error among the most confident rows over their share, with the threshold marked."""

    def draw(axes: Axes) -> None:
        axes.plot(100 * curve.coverage, 100 * curve.risk, color=ACCENT)
        axes.axhline(100 * (1 - target), color=SOFT, lw=1, ls=(0, (4, 3)))
        axes.annotate(
            f"target: at most {100 * (1 - target):.3g} %",
            (0.01, 100 * (1 - target)),
            xycoords=("axes fraction", "data"),
            xytext=(0, 4),
            textcoords="offset points",
            color=SOFT,
        )
        if threshold["accuracy_kept"] is not None:
            place = 100 * threshold["kept"], 100 * (1 - threshold["accuracy_kept"])
            axes.plot(*place, "o", ms=9, color=INK)
            near_edge = place[0] > 80
            _note(axes, "threshold", *place, (-9, 7) if near_edge else (9, -12), side="right" if near_edge else "left")
        axes.set(
            xlabel="rows that the encoder answers, most confident first, %",
            ylabel="errors among them, %",
            xlim=(0, 102),
        )
        axes.set_ylim(bottom=0)

    return _svg(draw, "Risk and coverage on the test rows, with the threshold marked")


def cascade(points: Sequence[Mapping[str, Any]], threshold: Mapping[str, Any], rows: int) -> str:
    """Plot the accuracy of the cascade over the share of rows that escalate, with the threshold marked."""

    def draw(axes: Axes) -> None:
        shares = [100 * point["share"] for point in points]
        axes.plot(shares, [100 * p["accuracy"] for p in points], "o-", color=ACCENT, ms=4, label="accuracy")
        axes.plot(shares, [100 * p["macro_f1"] for p in points], "o-", color=SECOND, ms=4, label="macro-F1")
        place = 100 * threshold["escalated"] / rows, 100 * threshold["accuracy"]
        axes.plot(*place, "o", ms=9, color=INK)
        near_edge = place[0] > 80
        _note(axes, "threshold", *place, (-4 if near_edge else 0, 9), side="right" if near_edge else "center")
        axes.margins(y=0.15)
        axes.set(xlabel="rows escalated, least confident first, %", ylabel="%")
        _legend(axes, columns=2)

    return _svg(draw, "Accuracy and macro-F1 of the cascade by the share of rows escalated")


def _note(axes: Axes, text: str, x: float, y: float, offset: tuple[float, float], *, side: Side = "center") -> None:
    axes.annotate(text, (x, y), xytext=offset, textcoords="offset points", ha=side, color=INK)


def _legend(axes: Axes, *, columns: int) -> None:
    axes.legend(ncols=columns, loc="lower left", bbox_to_anchor=(-0.02, 1.0), borderaxespad=0, handlelength=1.4)


def _short(text: str) -> str:
    return text if len(text) <= 28 else text[:27] + "…"


def _svg(draw: Callable[[Axes], None], title: str, *, height: float = 3.0) -> str:
    """Render one figure as an `svg` element, 5.2 inches wide."""
    with mpl.rc_context(_STYLE | {"svg.hashsalt": title}):
        figure = Figure(figsize=(5.2, height), layout="constrained")
        draw(figure.add_subplot())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<defs>\s*<style.*?</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<g id=\"[^\"]*\">", "<g>", svg)
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;\"]*(; )?", "", svg)
    for placeholder, name in _VARIABLES.items():
        svg = svg.replace(f": {placeholder}", f": var(--{name})")
    box = re.search(r'viewBox="[^"]*"', svg)
    assert box, "matplotlib wrote an svg without a viewBox"
    return f'<svg {box.group()} role="img" aria-label="{title}">' + svg[svg.index(">") + 1 :].strip()
