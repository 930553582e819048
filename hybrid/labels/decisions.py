"""From a method's opinion to what becomes of each row, with the reason."""

from collections.abc import Sequence

import numpy as np

from hybrid.config import CleanConfig
from hybrid.labels.estimate import LabelEstimate
from hybrid.labels.sources import LabelSource
from hybrid.types import Action, Decision, Example, Trusted

DIGITS = 6


def decisions_of(
    rows: Sequence[Example],
    opinion: LabelEstimate,
    labels: Sequence[str],
    config: CleanConfig,
    *,
    sources: Sequence[LabelSource],
    suspects: np.ndarray,
    quality_given: np.ndarray,
    trusted: Sequence[Trusted],
) -> list[Decision]:
    """Return a decision for each row, in row order; a trusted row takes its trusted label."""
    known = {one.id: one for one in trusted}
    found = []
    for i, row in enumerate(rows):
        said = ", ".join(f"{one.name} says {labels[one.said[i]]}" for one in sources if one.spoke[i])
        scores = {"given_quality": round(float(quality_given[i]), DIGITS)}
        if row.id in known:
            found.append(_trusted(row, known[row.id], labels, said, scores))
        else:
            found.append(_decision(row, i, opinion, labels, config, bool(suspects[i]), said, scores))
    return found


def _trusted(row: Example, one: Trusted, labels: Sequence[str], said: str, scores: dict[str, float]) -> Decision:
    return Decision(
        id=row.id,
        action="keep" if one.label == row.label else "relabel",
        given=row.label,
        label=one.label,
        weight=1.0,
        probs=tuple(float(label == one.label) for label in labels),
        reason=f"{said}; trusted: {one.source} says {one.label}",
        scores={"consensus_quality": 1.0} | scores,
    )


def _decision(
    row: Example,
    i: int,
    opinion: LabelEstimate,
    labels: Sequence[str],
    config: CleanConfig,
    suspect: bool,
    said: str,
    scores: dict[str, float],
) -> Decision:
    label, quality = labels[int(opinion.label[i])], float(opinion.quality[i])
    action: Action = "keep" if opinion.kept[i] else "drop"
    # The plain methods are asked for when a person wants the labels as they came: nothing waits for review.
    if opinion.name not in ("as given", "prune"):
        action = _action(changed=label != row.label, suspect=suspect, quality=quality, config=config)
    said_by = opinion.name if opinion.name in ("as given", "prune", "repair") else "consensus"
    return Decision(
        id=row.id,
        action=action,
        given=row.label,
        label=label,
        weight={"keep": 1.0, "relabel": 1.0, "review": config.review_weight, "drop": 0.0}[action],
        probs=tuple(round(float(p), DIGITS) for p in opinion.probs[i]),
        reason=f"{said}; {said_by} {label} with quality {quality:.2f}" + ("; suspect" if suspect else ""),
        scores={"consensus_quality": round(quality, DIGITS)} | scores,
    )


def _action(*, changed: bool, suspect: bool, quality: float, config: CleanConfig) -> Action:
    if suspect and quality < config.drop:
        return "drop"
    if changed:
        return "relabel" if quality >= config.relabel else "review"
    return "review" if suspect and quality < config.relabel else "keep"
