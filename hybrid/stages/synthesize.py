"""synthesize: check the drafts that a teacher wrote for rare classes; refuse with a reason, keep the rest."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from hybrid.config import SynthesizeConfig
from hybrid.data.duplicates import NearIndex
from hybrid.teacher.drafts.diversity import diversity
from hybrid.teacher.drafts.gate import REFUSED, Batch, Gate, fitted, gate
from hybrid.types import Decision, Draft, Example, Vote

Embed = Callable[[Sequence[str]], np.ndarray]
Relabel = Callable[[Sequence[Draft]], Sequence[Vote]]
Trial = Callable[[Sequence[Draft], Sequence[str]], Gate]
"""What the encoder that is to be trained makes of the drafts, by the names of the minority classes."""


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
    trial: Trial | None = None,
    balanced: bool = False,
    seed: int = 0,
) -> Synthesized:
    """Return each draft accepted or refused, the batch as a whole judged by the gate.

    `rows` are all real rows, calibration and test too: they are only compared with, never trained
    on. `decisions` and `embeddings` [n, d] belong to the training rows, in their order. A draft is
    refused where its class is no minority, a parent of it is not a training row, it is a near-copy
    of a real row or of an earlier draft, it says what a calibration or test row says, a classifier fitted
    on the cleaned rows is certain of another label, or neither the teacher's blind vote nor that
    classifier agrees with its label. `relabel` returns blind votes on drafts; it may return none. Where
    `config.use` is "auto", a batch that does not pass the gate (`hybrid.teacher.drafts.gate`) is refused whole; one
    that passes on frozen embeddings has to pass `trial` too. `balanced` says whether training weighs the classes evenly.
    """
    minority = minority_classes(decisions, labels, config)
    reasons = _refuse_by_text(drafts, rows, minority, config)
    open_drafts = [draft for draft in drafts if draft.id not in reasons]
    vectors = _vectors(open_drafts, embed)
    reasons |= _refuse_by_meaning(open_drafts, rows, vectors, embed, config)
    open_drafts = [draft for draft in drafts if draft.id not in reasons]
    real = _real(decisions, embeddings, labels)
    probs = _classifier_probs(open_drafts, real, vectors, labels)
    reasons |= _refuse_by_label(open_drafts, probs, relabel, labels, config)
    beliefs = {draft.id: float(probs[draft.id][labels.index(draft.label)]) for draft in open_drafts}
    checked = [_with_status(draft, reasons.get(draft.id, ""), beliefs.get(draft.id)) for draft in drafts]
    written = _written(checked, vectors, labels)
    judged = tried = None
    if len(written.targets):
        judged = gate(real, written, labels, minority, balanced=balanced, seed=seed)
        if config.use == "auto":
            if judged.passed and trial:
                tried = trial([draft for draft in checked if draft.status == "accepted"], minority)
            if failed := next((one for one in (judged, tried) if one and not one.passed), None):
                checked = [refuse_with_batch(draft, failed.reason) for draft in checked]
    report = _report(checked, minority, labels) | {
        "gate": msgspec.to_builtins(judged),
        "encoder_gate": msgspec.to_builtins(tried),
        "diversity": _diversity(checked, rows, decisions, vectors, embeddings),
    }
    return Synthesized(drafts=checked, report=report)


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


def _vectors(drafts: Sequence[Draft], embed: Embed) -> dict[str, np.ndarray]:
    found = embed([draft.text for draft in drafts]) if drafts else np.zeros((0, 0))
    return {draft.id: vector for draft, vector in zip(drafts, found, strict=True)}


def _refuse_by_meaning(
    drafts: Sequence[Draft],
    rows: Sequence[Example],
    vectors: Mapping[str, np.ndarray],
    embed: Embed,
    config: SynthesizeConfig,
) -> dict[str, str]:
    """Return the reason by draft id for drafts whose embedding is near that of a row that judges."""
    judges = [row for row in rows if row.part != "train"]
    if not drafts or not judges:
        return {}
    of_judges = embed([row.text for row in judges])
    reasons = {}
    for draft in drafts:
        similarity = of_judges @ vectors[draft.id]
        nearest = int(similarity.argmax())
        if similarity[nearest] >= config.near_meaning:
            row = judges[nearest]
            reasons[draft.id] = f"means what {row.part} row {row.id} means (cosine {similarity[nearest]:.2f})"
    return reasons


def _real(decisions: Sequence[Decision], embeddings: np.ndarray, labels: Sequence[str]) -> Batch:
    """Return the training rows as decided, without those that were dropped."""
    weights = np.array([decision.weight for decision in decisions])
    targets = np.array([labels.index(decision.label) for decision in decisions])
    return Batch(vectors=embeddings[weights > 0], targets=targets[weights > 0], weights=weights[weights > 0])


def _classifier_probs(
    drafts: Sequence[Draft], real: Batch, vectors: Mapping[str, np.ndarray], labels: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return class probabilities [k] by draft id, from balanced logistic regression on the cleaned rows."""
    if not drafts:
        return {}
    model = fitted(real, balanced=True)
    probs = np.zeros((len(drafts), len(labels)))
    probs[:, model.classes_] = model.predict_proba(np.array([vectors[draft.id] for draft in drafts]))
    return {draft.id: said for draft, said in zip(drafts, probs, strict=True)}


def _refuse_by_label(
    drafts: Sequence[Draft],
    probs: Mapping[str, np.ndarray],
    relabel: Relabel,
    labels: Sequence[str],
    config: SynthesizeConfig,
) -> dict[str, str]:
    """Return the reason by draft id where teacher and classifier do not bear out the label."""
    agreed = {vote.id: vote.label for vote in relabel(drafts) if vote.status == "ok"} if drafts else {}
    reasons = {}
    for draft in drafts:
        said = probs[draft.id]
        belief, other = float(said[labels.index(draft.label)]), labels[int(said.argmax())]
        if other != draft.label and said.max() >= config.classifier_veto:
            reasons[draft.id] = f"the classifier is certain of another label: {other} {said.max():.2f}"
        elif agreed.get(draft.id) != draft.label and belief < config.classifier_floor:
            voted = f"the teacher's blind vote is {agreed[draft.id]}, " if draft.id in agreed else ""
            reasons[draft.id] = f"label not agreed: {voted}the classifier gives {draft.label} {belief:.2f}"
    return reasons


def _written(drafts: Sequence[Draft], vectors: Mapping[str, np.ndarray], labels: Sequence[str]) -> Batch:
    """Return the accepted drafts as rows that a classifier can be fitted on."""
    accepted = [draft for draft in drafts if draft.status == "accepted"]
    return Batch(
        vectors=np.array([vectors[draft.id] for draft in accepted]),
        targets=np.array([labels.index(draft.label) for draft in accepted], dtype=int),
        weights=np.ones(len(accepted)),
    )


def refuse_with_batch(draft: Draft, reason: str) -> Draft:
    """Return a draft that passed its own checks refused with its batch; others as they are."""
    if draft.status == "refused":
        return draft
    return msgspec.structs.replace(draft, status="refused", reason=REFUSED + reason)


def _diversity(
    drafts: Sequence[Draft],
    rows: Sequence[Example],
    decisions: Sequence[Decision],
    vectors: Mapping[str, np.ndarray],
    embeddings: np.ndarray,
) -> dict[str, object]:
    """Return by class how diverse the drafts that passed their own checks are, beside as many real texts."""
    train = [row.text for row in rows if row.part == "train"]
    passed = [draft for draft in drafts if draft.status == "accepted" or draft.reason.startswith(REFUSED)]
    found: dict[str, object] = {}
    for label in sorted({draft.label for draft in passed}):
        own = [draft for draft in passed if draft.label == label]
        real = [i for i, decision in enumerate(decisions) if decision.label == label and decision.weight > 0]
        real = real[:: max(1, len(real) // len(own))][: len(own)]
        found[label] = {
            "drafts": diversity([draft.text for draft in own], np.array([vectors[draft.id] for draft in own])),
            "real": diversity([train[i] for i in real], embeddings[real]),
        }
    return found


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


_KINDS = {
    REFUSED: "the batch did not pass the gate",
    "near-copy of draft": "near-copy of draft",
    "near-copy of": "near-copy of a real row",
    "means what": "meaning of a calibration or test row",
    "its parent": "parent outside train",
    "the classifier is certain": "another label for certain",
    "label not agreed": "label not agreed",
    "the teacher's answer": "the teacher's answer",
}


def _kind(reason: str) -> str:
    return next((kind for start, kind in _KINDS.items() if reason.startswith(start)), "no minority class")
