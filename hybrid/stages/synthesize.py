"""synthesize: check the drafts that a teacher wrote for rare classes; refuse with a reason, keep the rest."""

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from hybrid.config import Recipe, SynthesizeConfig
from hybrid.data.duplicates import NearIndex
from hybrid.llm import backend_of, usage_of
from hybrid.stages.asking import teacher_of
from hybrid.stages.fitting import fit
from hybrid.stages.stage import DECISIONS, DRAFTS, LABELS, ROWS, TRAINING_DRAFTS, Reads, Stage, StageIO
from hybrid.teacher.drafts.diversity import diversity
from hybrid.teacher.drafts.gate import Batch, Gate, fitted, gate
from hybrid.teacher.drafts.recorded import read_drafts
from hybrid.teacher.drafts.writing import cost_between, write_drafts
from hybrid.teacher.vote_collection import ask_votes, prompt_of
from hybrid.types import REFUSALS, Decision, Draft, DraftStatus, Example, Report, Vote

Embed = Callable[[Sequence[str]], np.ndarray]
Relabel = Callable[[Sequence[Draft]], Sequence[Vote]]
Trial = Callable[[Sequence[Draft], Sequence[str]], Gate]
"""What the encoder that is to be trained makes of the drafts, by the names of the minority classes."""


class Synthesized(msgspec.Struct, frozen=True, kw_only=True):
    """Every draft with its status and the reason, in the order they came, and the counts."""

    drafts: list[Draft]
    report: dict[str, object]


class _Refusal(msgspec.Struct, frozen=True):
    """The check that a draft failed, and the sentence that says how."""

    status: DraftStatus
    reason: str


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
    refusals = _refuse_by_text(drafts, rows, minority, config)
    open_drafts = [draft for draft in drafts if draft.id not in refusals]
    vectors = _vectors(open_drafts, embed)
    refusals |= _refuse_by_meaning(open_drafts, rows, vectors, embed, config)
    open_drafts = [draft for draft in drafts if draft.id not in refusals]
    real = _real(decisions, embeddings, labels)
    probs = _classifier_probs(open_drafts, real, vectors, labels)
    refusals |= _refuse_by_label(open_drafts, probs, relabel, labels, config)
    beliefs = {draft.id: float(probs[draft.id][labels.index(draft.label)]) for draft in open_drafts}
    checked = [_with_status(draft, refusals.get(draft.id), beliefs.get(draft.id)) for draft in drafts]
    written = _written(checked, vectors, labels)
    judged = tried = None
    if len(written.targets):
        judged = gate(real, written, labels, minority, balanced=balanced, seed=seed)
        if config.use == "auto":
            if judged.passed and trial:
                tried = trial([draft for draft in checked if draft.status == "accepted"], minority)
            if failed := next((gate for gate in (judged, tried) if gate and not gate.passed), None):
                checked = [refuse_with_batch(draft, failed.reason) for draft in checked]
    report = _report(checked, minority, labels) | {
        "gate": msgspec.to_builtins(judged),
        "encoder_gate": msgspec.to_builtins(tried),
        "diversity": _diversity(checked, rows, decisions, vectors, embeddings),
    }
    return Synthesized(drafts=checked, report=report)


def _refuse_by_text(
    drafts: Sequence[Draft], rows: Sequence[Example], minority: Sequence[str], config: SynthesizeConfig
) -> dict[str, _Refusal]:
    """Return the refusals, by draft id, of drafts whose class, parents or text rule them out."""
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


def _vectors(drafts: Sequence[Draft], embed: Embed) -> dict[str, np.ndarray]:
    embeddings = embed([draft.text for draft in drafts]) if drafts else np.zeros((0, 0))
    return {draft.id: vector for draft, vector in zip(drafts, embeddings, strict=True)}


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
    return {draft.id: row for draft, row in zip(drafts, probs, strict=True)}


def _refuse_by_label(
    drafts: Sequence[Draft],
    probs: Mapping[str, np.ndarray],
    relabel: Relabel,
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
        elif voted.get(draft.id) != draft.label and belief < config.classifier_floor:
            vote = f"the teacher's blind vote is {voted[draft.id]}, " if draft.id in voted else ""
            reason = f"label not agreed: {vote}the classifier gives {draft.label} {belief:.2f}"
            refusals[draft.id] = _Refusal("not_agreed", reason)
    return refusals


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
    if draft.status != "accepted":
        return draft
    return msgspec.structs.replace(draft, status="batch_refused", reason=f"the batch is refused: {reason}")


def _diversity(
    drafts: Sequence[Draft],
    rows: Sequence[Example],
    decisions: Sequence[Decision],
    vectors: Mapping[str, np.ndarray],
    embeddings: np.ndarray,
) -> dict[str, object]:
    """Return by class how diverse the drafts that passed their own checks are, beside as many real texts."""
    train = [row.text for row in rows if row.part == "train"]
    passed = [draft for draft in drafts if draft.status in ("accepted", "batch_refused")]
    by_label: dict[str, object] = {}
    for label in sorted({draft.label for draft in passed}):
        own = [draft for draft in passed if draft.label == label]
        real = [i for i, decision in enumerate(decisions) if decision.label == label and decision.weight > 0]
        real = real[:: max(1, len(real) // len(own))][: len(own)]
        by_label[label] = {
            "drafts": diversity([draft.text for draft in own], np.array([vectors[draft.id] for draft in own])),
            "real": diversity([train[i] for i in real], embeddings[real]),
        }
    return by_label


def _with_status(draft: Draft, refusal: _Refusal | None, belief: float | None) -> Draft:
    scores = {} if belief is None else {"classifier": round(belief, 6)}
    checked = refusal or _Refusal("accepted", "")
    return msgspec.structs.replace(draft, status=checked.status, reason=checked.reason, scores=scores)


def _report(drafts: Sequence[Draft], minority: Sequence[str], labels: Sequence[str]) -> dict[str, object]:
    accepted = Counter(draft.label for draft in drafts if draft.status == "accepted")
    refused = Counter(REFUSALS[draft.status] for draft in drafts if draft.status != "accepted")
    assert accepted.total() + refused.total() == len(drafts)
    return {
        "minority": list(minority),
        "drafts": len(drafts),
        "accepted": {label: accepted[label] for label in labels},
        "refused": dict(refused.most_common()),
    }


def _reads(recipe: Recipe) -> Reads:
    # A batch that must earn its place is tried with the whole training.
    train = "train" if recipe.synthesize.use == "auto" else "train.class_weights"
    return Reads(
        settings=("synthesize", train, "verify.answer", "verify.votes", "task", "seed"),
        tables=(ROWS, DECISIONS),
        files=("clean/embeddings.npy",),
        reports=(LABELS,),
        recipe_files=("synthesize.drafts",),
        prompts=("synthesize", "attributes", prompt_of(recipe.verify)),
        llms=("teacher",),
        encoder=True,
    )


def _work(io: StageIO) -> Report:
    if io.recipe.task == "multi_label":
        io.write(DRAFTS, [])
        io.write(TRAINING_DRAFTS, [])
        return nothing_written(io.labels) | {"recorded": False}
    recorded, decisions = io.recipe_files("synthesize.drafts"), io.read(DECISIONS)
    before = usage_of(io.llm("teacher"))
    synthesized = synthesize(
        read_drafts(recorded[0]) if recorded else written_drafts(io, decisions),
        io.rows(),
        decisions,
        np.load(io.input("clean/embeddings.npy")),
        io.labels,
        io.recipe.synthesize,
        embed=io.embed,
        relabel=lambda drafts: _blind_votes(io, drafts),
        trial=lambda drafts, minority: try_drafts(io, drafts, minority),
        balanced=io.recipe.train.class_weights == "balanced",
        seed=io.recipe.seed,
    )
    io.write(DRAFTS, synthesized.drafts)
    # Where drafts do not train, the table is empty, and what is written for the report alone changes no training.
    io.write(TRAINING_DRAFTS, [d for d in synthesized.drafts if io.recipe.synthesize.use and d.status == "accepted"])
    cost = cost_between(before, usage_of(io.llm("teacher")))
    spent = {"llm": cost} if cost["calls"] or cost["hits"] else {}
    return synthesized.report | {"recorded": bool(recorded)} | spent


def written_drafts(io: StageIO, decisions: Sequence[Decision]) -> list[Draft]:
    """What a live teacher writes for the minority classes; nothing without one."""
    teacher = teacher_of(io, "teacher") if backend_of(io.recipe.teacher).is_live else None
    if teacher is None or not io.recipe.synthesize.per_class:
        return []
    decided = {decision.id: decision.label for decision in decisions if decision.weight > 0}
    return write_drafts(
        [msgspec.structs.replace(row, label=decided[row.id]) for row in io.rows() if row.id in decided],
        minority_classes(decisions, io.labels, io.recipe.synthesize),
        io.labels,
        io.recipe.synthesize,
        teacher=teacher,
        seed=io.recipe.seed,
        on_done=io.advance,
    )


def _blind_votes(io: StageIO, drafts: Sequence[Draft]) -> Sequence[Vote]:
    """A live teacher's blind votes on drafts; a recorded one knows none of them."""
    if not backend_of(io.recipe.teacher).is_live:
        return []
    teacher = teacher_of(io, "teacher")
    assert teacher is not None
    rows = [Example(id=d.id, text=d.text, label=d.label, origin="synthetic", parents=d.parents) for d in drafts]
    return ask_votes(
        [(row, 0) for row in rows],
        io.labels,
        prompt_of(io.recipe.verify),
        teacher=teacher,
    )


def try_drafts(io: StageIO, drafts: Sequence[Draft], minority: Sequence[str]) -> Gate:
    """Whether the drafts help the recipe's encoder on real rows held out, trained as the recipe trains it.

    Each training has a folder that carries the key of the stage: a run that was killed goes on in the midst of it.
    """
    from hybrid.data.training_rows import TrainingRow, training_rows
    from hybrid.encoders.checkpoint import load_classifier, load_tokenizer
    from hybrid.encoders.exporting import checkpoint_logits
    from hybrid.teacher.drafts.gate import encoder_gate

    rows = training_rows(io.rows("train"), io.read(DECISIONS), drafts, io.labels, io.recipe.train)

    def fit_predict(name: str, fitting: Sequence[TrainingRow], texts: Sequence[str]) -> np.ndarray:
        checkpoint = fit(io, io.recipe.train, fitting, name=f"trials/{name}").checkpoint
        model = load_classifier(checkpoint, io.labels).eval()
        logits = checkpoint_logits(model, load_tokenizer(checkpoint), texts, io.limits)
        return np.asarray(logits.argmax(axis=1))

    tried = encoder_gate(
        [row for row in rows if not row.synthetic],
        [row for row in rows if row.synthetic],
        io.labels,
        minority,
        fit_predict=fit_predict,
        seed=io.recipe.seed,
    )
    shutil.rmtree(io.scratch() / "trials")
    return tried


def _summary_line(report: Report) -> str:
    accepted = f"{sum(report['accepted'].values())} of {report['drafts']} drafts accepted"
    gates = [gate for gate in (report.get("gate"), report.get("encoder_gate")) if gate]
    failed = next((gate["reason"] for gate in gates if not gate["passed"]), "")
    return f"{accepted}; the gate: {failed}" if failed else accepted


SYNTHESIZE = Stage(
    name="synthesize",
    purpose="cleaned rows -> drafts of rare classes, accepted and refused",
    version=5,
    reads=_reads,
    writes=(DRAFTS.path, TRAINING_DRAFTS.path),
    code=(
        "hybrid.calibration",
        "hybrid.data",
        "hybrid.encoders",
        "hybrid.evaluation",
        "hybrid.label_sets",
        "hybrid.llm",
        "hybrid.runtime",
        "hybrid.stages.asking",
        "hybrid.stages.fitting",
        "hybrid.teacher",
    ),
    work=_work,
    summary_line=_summary_line,
)
