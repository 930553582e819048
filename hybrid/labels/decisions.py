"""Turn a method's label estimates into a decision about each row, with the reason."""

from collections.abc import Sequence

import msgspec
import numpy as np

from hybrid.config import CleanConfig
from hybrid.labels.estimate import LabelEstimate
from hybrid.labels.methods import METHODS
from hybrid.labels.sources import LabelSource
from hybrid.types import Action, Decision, Example, Trusted

DIGITS = 6


class _Evidence(msgspec.Struct, frozen=True):
    """What is known about one row apart from the estimate."""

    statements: str
    """Each source's label, in words."""
    suspect: bool
    """Whether confident learning suspects the given label."""
    given_quality: float

    @property
    def scores(self) -> dict[str, float]:
        return {"given_quality": round(self.given_quality, DIGITS)}


def decisions_of(
    rows: Sequence[Example],
    estimate: LabelEstimate,
    labels: Sequence[str],
    config: CleanConfig,
    *,
    sources: Sequence[LabelSource],
    suspects: np.ndarray,
    quality_given: np.ndarray,
    trusted: Sequence[Trusted],
) -> list[Decision]:
    """Decide about each row, in row order; a trusted row takes its trusted label."""
    trusted_by_id = {row.id: row for row in trusted}
    decisions = []
    for i, row in enumerate(rows):
        statements = ", ".join(
            f"{source.name} says {labels[source.label[i]]}" for source in sources if source.has_label[i]
        )
        evidence = _Evidence(statements, bool(suspects[i]), float(quality_given[i]))
        if row.id in trusted_by_id:
            decisions.append(_trusted_decision(row, trusted_by_id[row.id], labels, evidence))
        else:
            decisions.append(_decision(row, i, estimate, labels, config, evidence))
    return decisions


def _trusted_decision(row: Example, trusted: Trusted, labels: Sequence[str], evidence: _Evidence) -> Decision:
    return Decision(
        id=row.id,
        action="keep" if trusted.label == row.label else "relabel",
        given=row.label,
        label=trusted.label,
        weight=1.0,
        probs=tuple(float(label == trusted.label) for label in labels),
        reason=f"{evidence.statements}; trusted: {trusted.source} says {trusted.label}",
        scores={"consensus_quality": 1.0} | evidence.scores,
    )


def _decision(
    row: Example,
    i: int,
    estimate: LabelEstimate,
    labels: Sequence[str],
    config: CleanConfig,
    evidence: _Evidence,
) -> Decision:
    method = METHODS[estimate.method]
    label, quality = labels[int(estimate.label[i])], float(estimate.quality[i])
    action: Action = "keep" if estimate.kept[i] else "drop"
    if method.weighs_sources:
        action = _action(changed=label != row.label, suspect=evidence.suspect, quality=quality, config=config)
    suspect = "; suspect" if evidence.suspect else ""
    return Decision(
        id=row.id,
        action=action,
        given=row.label,
        label=label,
        weight={"keep": 1.0, "relabel": 1.0, "review": config.review_weight, "drop": 0.0}[action],
        probs=tuple(round(float(p), DIGITS) for p in estimate.probs[i]),
        reason=f"{evidence.statements}; {method.name} {label} with quality {quality:.2f}{suspect}",
        scores={"consensus_quality": round(quality, DIGITS)} | evidence.scores,
    )


def _action(*, changed: bool, suspect: bool, quality: float, config: CleanConfig) -> Action:
    if suspect and quality < config.drop:
        return "drop"
    if changed:
        return "relabel" if quality >= config.relabel else "review"
    return "review" if suspect and quality < config.relabel else "keep"
