"""The checks of single drafts: class, parents, copies, meaning, and whether teacher or classifier agree with the label."""

from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from hybrid.config import SynthesizeConfig
from hybrid.data.duplicates import NearIndex
from hybrid.teacher.drafts.frozen import Batch, cross_fitted_probs, fitted
from hybrid.teacher.drafts.verdict import FEWEST_ROWS
from hybrid.types import Draft, DraftStatus, Example, Vote

Embed = Callable[[Sequence[str]], np.ndarray]
"""Unit vectors [n, d] of texts."""
Relabel = Callable[[Sequence[Draft]], Sequence[Vote]]
"""The teacher's blind votes on drafts; a recorded teacher has none."""


class CheckedDrafts(msgspec.Struct, frozen=True, kw_only=True):
    """Every draft with its status and the reason, in the order they came, and the vectors [d] of those compared, by id."""

    drafts: list[Draft]
    vectors: dict[str, np.ndarray]

    def accepted(self, labels: Sequence[str]) -> Batch:
        """Return the accepted drafts as rows that a classifier can be fitted on."""
        accepted = [draft for draft in self.drafts if draft.status == "accepted"]
        return Batch(
            vectors=np.array([self.vectors[draft.id] for draft in accepted]),
            targets=np.array([labels.index(draft.label) for draft in accepted], dtype=int),
            weights=np.ones(len(accepted)),
        )


class _Refusal(msgspec.Struct, frozen=True):
    """The check that a draft failed, and the sentence that says how."""

    status: DraftStatus
    reason: str


def check_drafts(
    drafts: Sequence[Draft],
    rows: Sequence[Example],
    real: Batch,
    labels: Sequence[str],
    minority: Sequence[str],
    config: SynthesizeConfig,
    *,
    embed: Embed,
    relabel: Relabel,
    seed: int,
) -> CheckedDrafts:
    """Return each draft accepted or refused.

    `rows` are all real rows, calibration and test too: they are only compared with, never trained on. `real` are the
    training rows with their decided labels. A draft is refused where its class is no minority, a parent of it is not a
    training row, it is a near-copy of a real row or of an earlier draft, it says what a calibration or test row says, a
    classifier fitted on `real` is certain of another label, or neither the teacher's blind vote nor that classifier
    agrees with its label.
    """
    refusals = _refuse_by_text(drafts, rows, minority, config)
    open_drafts = [draft for draft in drafts if draft.id not in refusals]
    embeddings = embed([draft.text for draft in open_drafts]) if open_drafts else np.zeros((0, 0))
    vectors = {draft.id: vector for draft, vector in zip(open_drafts, embeddings, strict=True)}
    refusals |= _refuse_by_meaning(open_drafts, rows, vectors, embed, config)
    open_drafts = [draft for draft in open_drafts if draft.id not in refusals]
    probs = _classifier_probs(open_drafts, real, vectors, labels)
    floors = belief_floors(real, labels, minority, config, seed=seed) if open_drafts else {}
    refusals |= _refuse_by_label(open_drafts, probs, relabel, floors, labels, config)
    beliefs = {draft.id: float(probs[draft.id][labels.index(draft.label)]) for draft in open_drafts}
    checked = [_with_status(draft, refusals.get(draft.id), beliefs.get(draft.id)) for draft in drafts]
    return CheckedDrafts(drafts=checked, vectors=vectors)


def _refuse_by_text(
    drafts: Sequence[Draft], rows: Sequence[Example], minority: Sequence[str], config: SynthesizeConfig
) -> dict[str, _Refusal]:
    """Return the refusals, by draft id, of drafts whose class, parents or text rule them out."""
    if not drafts:
        return {}
    train_ids = {row.id for row in rows if row.part == "train"}
    real = NearIndex([row.text for row in rows], config.near_duplicate)
    refusals: dict[str, _Refusal] = {}
    earlier = NearIndex([draft.text for draft in drafts], config.near_duplicate)
    first_copy = {later: first for first, later in reversed(earlier.pairs())}
    for i, draft in enumerate(drafts):
        strangers = [parent for parent in draft.parents if parent not in train_ids]
        near = real.nearest(draft.text)
        if draft.status != "accepted":
            refusals[draft.id] = _Refusal(draft.status, draft.reason)
        elif draft.label not in minority:
            refusals[draft.id] = _Refusal("not_rare", f"{draft.label} is no minority class here")
        elif strangers:
            refusals[draft.id] = _Refusal("foreign_parent", f"its parent {strangers[0]} is not a training row")
        elif near:
            row, similarity = rows[near[0]], near[1]
            reason = f"near-copy of {row.part} row {row.id} (similarity {similarity:.2f})"
            refusals[draft.id] = _Refusal("near_row", reason)
        elif i in first_copy:
            refusals[draft.id] = _Refusal("duplicate", f"near-copy of draft {drafts[first_copy[i]].id}")
    return refusals


def _refuse_by_meaning(
    drafts: Sequence[Draft],
    rows: Sequence[Example],
    vectors: Mapping[str, np.ndarray],
    embed: Embed,
    config: SynthesizeConfig,
) -> dict[str, _Refusal]:
    """Return the refusals, by draft id, of drafts whose embedding is near that of a row that judges."""
    judges = [row for row in rows if row.part != "train"]
    if not drafts or not judges:
        return {}
    of_judges = embed([row.text for row in judges])
    refusals = {}
    for draft in drafts:
        similarity = of_judges @ vectors[draft.id]
        nearest = int(similarity.argmax())
        if similarity[nearest] >= config.near_meaning:
            row = judges[nearest]
            reason = f"means what {row.part} row {row.id} means (cosine {similarity[nearest]:.2f})"
            refusals[draft.id] = _Refusal("near_test", reason)
    return refusals


def _classifier_probs(
    drafts: Sequence[Draft], real: Batch, vectors: Mapping[str, np.ndarray], labels: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return class probabilities [k] by draft id, from balanced logistic regression on the cleaned rows."""
    if not drafts:
        return {}
    model = fitted(real, balanced=True)
    probs = np.zeros((len(drafts), len(labels)))
    probs[:, model.classes_] = model.predict_proba(np.array([vectors[draft.id] for draft in drafts]))
    return {draft.id: row for draft, row in zip(drafts, probs, strict=True)}


def belief_floors(
    real: Batch, labels: Sequence[str], minority: Sequence[str], config: SynthesizeConfig, *, seed: int
) -> dict[str, float]:
    """Return the lowest probability, by minority class, at which the classifier confirms a draft of that class.

    That is `classifier_floor`, or the median of what the classifier, cross-fitted, gives the class on the class's own
    rows, if that is lower. A classifier that has seen thirty rows of a class hardly believes in the real ones, and
    would refuse nearly every draft of the classes that need drafts most. With fewer than `FEWEST_ROWS` rows there is no
    such median, and an even share of the probability is asked for.
    """
    beliefs = cross_fitted_probs(real, len(labels), seed=seed)
    floors = {}
    for name in minority:
        own = beliefs[real.targets == labels.index(name), labels.index(name)]
        measured = float(np.median(own)) if len(own) >= FEWEST_ROWS else 1 / len(labels)
        floors[name] = min(config.classifier_floor, measured)
    return floors


def _refuse_by_label(
    drafts: Sequence[Draft],
    probs: Mapping[str, np.ndarray],
    relabel: Relabel,
    floors: Mapping[str, float],
    labels: Sequence[str],
    config: SynthesizeConfig,
) -> dict[str, _Refusal]:
    """Return the refusals, by draft id, of drafts whose label neither teacher nor classifier confirms."""
    voted = {vote.id: vote.label for vote in relabel(drafts) if vote.status == "ok"} if drafts else {}
    refusals = {}
    for draft in drafts:
        of_draft = probs[draft.id]
        belief, likeliest = float(of_draft[labels.index(draft.label)]), labels[int(of_draft.argmax())]
        if likeliest != draft.label and of_draft.max() >= config.classifier_veto:
            reason = f"the classifier is certain of another label: {likeliest} {of_draft.max():.2f}"
            refusals[draft.id] = _Refusal("off_label", reason)
        elif voted.get(draft.id) != draft.label and belief < floors[draft.label]:
            vote = f"the teacher's blind vote is {voted[draft.id]}, " if draft.id in voted else ""
            reason = f"label not agreed: {vote}the classifier gives {draft.label} {belief:.2f}"
            refusals[draft.id] = _Refusal("not_agreed", reason)
    return refusals


def _with_status(draft: Draft, refusal: _Refusal | None, belief: float | None) -> Draft:
    scores = {} if belief is None else {"classifier": round(belief, 6)}
    checked = refusal or _Refusal("accepted", "")
    return msgspec.structs.replace(draft, status=checked.status, reason=checked.reason, scores=scores)
