"""synthesize: check the drafts that a teacher wrote for rare classes; refuse with a reason, keep the rest."""

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from sklearn.linear_model import LogisticRegression

from hybrid.config import SynthesizeConfig
from hybrid.duplicates import NearIndex
from hybrid.types import Decision, Draft, Example, Vote

Embed = Callable[[Sequence[str]], np.ndarray]
Relabel = Callable[[Sequence[Draft]], Sequence[Vote]]


class Synthesized(msgspec.Struct, frozen=True, kw_only=True):
    """Every draft with its status and the reason, in the order they came, and the counts."""

    drafts: list[Draft]
    report: dict[str, object]


def nothing_written(labels: Sequence[str]) -> dict[str, object]:
    """Return the counts of no drafts: rows of several labels have none yet."""
    return _report([], [], labels)


def minority_classes(decisions: Sequence[Decision], labels: Sequence[str], config: SynthesizeConfig) -> list[str]:
    """Return the labels that have less than `minority` of an even share of the rows that train."""
    used = Counter(decision.label for decision in decisions if decision.weight > 0)
    even = used.total() / len(labels)
    return [label for label in labels if used[label] < config.minority * even]


def synthesize(
    drafts: Sequence[Draft],
    rows: Sequence[Example],
    decisions: Sequence[Decision],
    embeddings: np.ndarray,
    labels: Sequence[str],
    config: SynthesizeConfig,
    *,
    embed: Embed,
    relabel: Relabel,
) -> Synthesized:
    """Return each draft accepted or refused.

    `rows` are all real rows, calibration and test too: they are only compared with, never trained
    on. `decisions` and `embeddings` [n, d] belong to the training rows, in their order. A draft is
    refused where its class is no minority, a parent of it is not a training row, it is a near-copy
    of a real row or of an earlier draft, or neither the teacher's blind vote nor a classifier
    fitted on the cleaned rows agrees with its label. `relabel` returns blind votes on drafts; it
    may return none.
    """
    minority = minority_classes(decisions, labels, config)
    reasons = _refuse_by_text(drafts, rows, minority, config)
    open_drafts = [draft for draft in drafts if draft.id not in reasons]
    beliefs = _classifier_beliefs(open_drafts, decisions, embeddings, labels, embed)
    agreed = {vote.id: vote.label for vote in relabel(open_drafts) if vote.status == "ok"} if open_drafts else {}
    for draft in open_drafts:
        belief = beliefs[draft.id]
        if agreed.get(draft.id) != draft.label and belief < config.classifier_floor:
            said = f"the teacher's blind vote is {agreed[draft.id]}, " if draft.id in agreed else ""
            reasons[draft.id] = f"label not agreed: {said}the classifier gives {draft.label} {belief:.2f}"
    checked = [_with_status(draft, reasons.get(draft.id, ""), beliefs.get(draft.id)) for draft in drafts]
    return Synthesized(drafts=checked, report=_report(checked, minority, labels))


def _refuse_by_text(
    drafts: Sequence[Draft], rows: Sequence[Example], minority: Sequence[str], config: SynthesizeConfig
) -> dict[str, str]:
    """Return the reason by draft id for drafts whose class, parents or text rule them out."""
    train_ids = {row.id for row in rows if row.part == "train"}
    real = NearIndex([row.text for row in rows], config.near_duplicate)
    reasons: dict[str, str] = {}
    earlier = NearIndex([draft.text for draft in drafts], config.near_duplicate)
    first_copy = {later: first for first, later in reversed(earlier.pairs())}
    for i, draft in enumerate(drafts):
        strangers = [parent for parent in draft.parents if parent not in train_ids]
        near = real.nearest(draft.text)
        if draft.status == "refused":
            reasons[draft.id] = draft.reason
        elif draft.label not in minority:
            reasons[draft.id] = f"{draft.label} is no minority class here"
        elif strangers:
            reasons[draft.id] = f"its parent {strangers[0]} is not a training row"
        elif near:
            reasons[draft.id] = f"near-copy of {rows[near[0]].part} row {rows[near[0]].id} (similarity {near[1]:.2f})"
        elif i in first_copy:
            reasons[draft.id] = f"near-copy of draft {drafts[first_copy[i]].id}"
    return reasons


def _classifier_beliefs(
    drafts: Sequence[Draft],
    decisions: Sequence[Decision],
    embeddings: np.ndarray,
    labels: Sequence[str],
    embed: Embed,
) -> dict[str, float]:
    """Return by draft id the probability of its label, from logistic regression on the cleaned rows."""
    if not drafts:
        return {}
    used = np.array([decision.weight > 0 for decision in decisions])
    targets = np.array([labels.index(decision.label) for decision in decisions])
    model = LogisticRegression(max_iter=1000, class_weight="balanced").fit(embeddings[used], targets[used])
    probs = np.zeros((len(drafts), len(labels)))
    probs[:, model.classes_] = model.predict_proba(embed([draft.text for draft in drafts]))
    return {draft.id: float(probs[i, labels.index(draft.label)]) for i, draft in enumerate(drafts)}


def _with_status(draft: Draft, reason: str, belief: float | None) -> Draft:
    scores = {} if belief is None else {"classifier": round(belief, 6)}
    return msgspec.structs.replace(draft, status="refused" if reason else "accepted", reason=reason, scores=scores)


def _report(drafts: Sequence[Draft], minority: Sequence[str], labels: Sequence[str]) -> dict[str, object]:
    accepted = Counter(draft.label for draft in drafts if draft.status == "accepted")
    kinds = Counter(_kind(draft.reason) for draft in drafts if draft.status == "refused")
    assert accepted.total() + kinds.total() == len(drafts)
    return {
        "minority": list(minority),
        "drafts": len(drafts),
        "accepted": {label: accepted[label] for label in labels},
        "refused": dict(kinds.most_common()),
    }


def _kind(reason: str) -> str:
    for kind in ("near-copy of draft", "near-copy of", "its parent", "label not agreed", "the teacher's answer"):
        if reason.startswith(kind):
            return {"near-copy of": "near-copy of a real row", "its parent": "parent outside train"}.get(kind, kind)
    return "no minority class"
