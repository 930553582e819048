"""synthesize: check the drafts that a teacher wrote for rare classes; refuse with a reason, keep the rest."""

import math
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec
import numpy as np

from hybrid.config import Recipe, SynthesizeConfig
from hybrid.llm import backend_of, usage_of
from hybrid.stages.asking import teacher_of
from hybrid.stages.fitting import fit
from hybrid.stages.stage import DECISIONS, DRAFTS, LABELS, ROWS, TRAINING_DRAFTS, TRUSTED, Reads, Stage, StageIO
from hybrid.teacher.drafts.checks import CheckedDrafts, Embed, Relabel, check_drafts
from hybrid.teacher.drafts.diversity import diversity, tell_apart
from hybrid.teacher.drafts.frozen import Batch, recall_at_own_count
from hybrid.teacher.drafts.gate import screen
from hybrid.teacher.drafts.parents import Parents, halves, parent_places
from hybrid.teacher.drafts.recorded import read_drafts
from hybrid.teacher.drafts.verdict import NOT_JUDGED, Gate
from hybrid.teacher.drafts.writing import DraftWriter, cost_between
from hybrid.teacher.vote_collection import ask_votes, prompt_of
from hybrid.types import REFUSALS, Decision, Draft, Example, Report, Trusted, Vote

DRAFTS_A_MISSING_ROW = 1.5
"""Drafts for each row that a class lacks: one that a teacher wrote is worth less than one that somebody sent."""
LEAST_WAVE_GAIN = 0.01
"""The least that a wave has to add to the held-out recall of its class for another to follow."""
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
    """Return the labels with less than `minority` of an even share of the rows that train, and fewer than `enough`."""
    used = Counter(decision.label for decision in decisions if decision.weight > 0)
    most = config.minority * used.total() / len(labels)
    return [label for label in labels if used[label] < min(most, config.enough or most)]


def planned_drafts(decisions: Sequence[Decision], labels: Sequence[str], config: SynthesizeConfig) -> dict[str, int]:
    """Return how many drafts each minority class may get: 1.5 for each row that it lacks, and at most `per_class`."""
    used = Counter(decision.label for decision in decisions if decision.weight > 0)
    planned = {}
    for label in minority_classes(decisions, labels, config):
        missing = config.enough - used[label] if config.enough else config.per_class
        planned[label] = min(config.per_class, math.ceil(DRAFTS_A_MISSING_ROW * missing))
    return planned


def judging_labels(decisions: Iterable[Decision], trusted: Sequence[Trusted]) -> dict[str, str]:
    """Return, by row id, the labels that may judge drafts: trusted ones, and given ones that cleaning confirmed.

    The teacher that writes drafts has voted on the rows as well. A label that it changed would favour its drafts, and
    one that it would change may be wrong, so such a row judges nothing and is not in the result.
    """
    confirmed = {d.id: d.given for d in decisions if d.weight > 0 and d.given == d.label}
    return confirmed | {row.id: row.label for row in trusted}


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
    trusted: Sequence[Trusted] = (),
    balanced: bool = False,
    seed: int = 0,
) -> Synthesized:
    """Return each draft accepted or refused, those of each class together judged by the gate.

    `rows` are all real rows, calibration and test too: they are only compared with, never trained
    on. `decisions` and `embeddings` [n, d] belong to the training rows, in their order. Drafts pass the checks of
    `hybrid.teacher.drafts.checks` one by one. Where `config.use` is "auto", the drafts of a class that does not pass
    the gate (`hybrid.teacher.drafts.gate`) are refused: those that do harm on frozen embeddings, then those that fail `trial`.
    `balanced` says whether training weighs the classes evenly.
    """
    minority = minority_classes(decisions, labels, config)
    real = _real(decisions, embeddings, labels)
    checks = check_drafts(drafts, rows, real, labels, minority, config, embed=embed, relabel=relabel, seed=seed)
    checked = checks.drafts
    judged = tried = None
    if any(draft.status == "accepted" for draft in checked):
        judging = _judging(decisions, trusted, labels)
        parents = _parents_of_accepted(checked, decisions)
        judged = screen(
            real, checks.accepted(labels), judging, labels, minority, parents=parents, balanced=balanced, seed=seed
        )
        if config.use == "auto":
            checked = refuse_classes(checked, judged)
            if trial and (accepted := [draft for draft in checked if draft.status == "accepted"]):
                tried = trial(accepted, judged.passed)
                checked = refuse_classes(checked, tried)
    report = _report(checked, minority, labels) | {
        "gate": msgspec.to_builtins(judged),
        "encoder_gate": msgspec.to_builtins(tried),
        "diversity": _diversity(checked, rows, decisions, checks.vectors, embeddings),
    }
    return Synthesized(drafts=checked, report=report)


def refuse_classes(drafts: Sequence[Draft], judged: Gate) -> list[Draft]:
    """Return the drafts with those refused that passed their own checks and are of a class that the gate refuses."""
    return [
        msgspec.structs.replace(
            draft,
            status="batch_refused",
            reason=f"the drafts of {draft.label} are refused: {judged.refused[draft.label]}",
        )
        if draft.status == "accepted" and draft.label in judged.refused
        else draft
        for draft in drafts
    ]


def _real(decisions: Sequence[Decision], embeddings: np.ndarray, labels: Sequence[str]) -> Batch:
    """Return the training rows as decided, without those that were dropped."""
    weights = np.array([decision.weight for decision in decisions])
    targets = np.array([labels.index(decision.label) for decision in decisions])
    return Batch(vectors=embeddings[weights > 0], targets=targets[weights > 0], weights=weights[weights > 0])


def _parents_of_accepted(drafts: Sequence[Draft], decisions: Sequence[Decision]) -> Parents:
    """Return the places of the accepted drafts' parents among the rows of `_real`."""
    accepted = [draft for draft in drafts if draft.status == "accepted"]
    return parent_places(accepted, [decision.id for decision in decisions if decision.weight > 0])


def _judging(decisions: Sequence[Decision], trusted: Sequence[Trusted], labels: Sequence[str]) -> np.ndarray:
    """Return the judging labels of the rows of `_real`, class indices or `NOT_JUDGED`."""
    by_id = judging_labels(decisions, trusted)
    names = [by_id.get(decision.id) for decision in decisions if decision.weight > 0]
    return np.array([NOT_JUDGED if name is None else labels.index(name) for name in names])


def _diversity(
    drafts: Sequence[Draft],
    rows: Sequence[Example],
    decisions: Sequence[Decision],
    vectors: Mapping[str, np.ndarray],
    embeddings: np.ndarray,
) -> dict[str, object]:
    """Return by class how diverse the drafts that passed their own checks are, beside real texts, and what tells them apart.

    As many real texts as drafts are compared for diversity, and all of the class for the words.
    """
    train = [row.text for row in rows if row.part == "train"]
    passed = [draft for draft in drafts if draft.status in ("accepted", "batch_refused")]
    by_label: dict[str, object] = {}
    for label in sorted({draft.label for draft in passed}):
        own = [draft for draft in passed if draft.label == label]
        real = [i for i, decision in enumerate(decisions) if decision.label == label and decision.weight > 0]
        equal = real[:: max(1, len(real) // len(own))][: len(own)]
        by_label[label] = {
            "drafts": diversity([draft.text for draft in own], np.array([vectors[draft.id] for draft in own])),
            "real": diversity([train[i] for i in equal], embeddings[equal]),
            "told_apart": tell_apart([draft.text for draft in own], [train[i] for i in real]),
        }
    return by_label


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
    # Drafts that must earn their place are tried with the whole training.
    train = "train" if recipe.synthesize.use == "auto" else "train.class_weights"
    return Reads(
        settings=("synthesize", train, "verify.answer", "verify.votes", "task", "seed"),
        tables=(ROWS, DECISIONS, TRUSTED),
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
    waves: list[Report] = []
    drafts = read_drafts(recorded[0]) if recorded else written_in_waves(io, decisions, waves)
    synthesized = synthesize(
        drafts,
        io.rows(),
        decisions,
        np.load(io.input("clean/embeddings.npy")),
        io.labels,
        io.recipe.synthesize,
        embed=io.embed,
        relabel=lambda open_drafts: _blind_votes(io, open_drafts),
        trial=lambda accepted, minority: try_drafts(io, accepted, minority),
        trusted=io.read(TRUSTED),
        balanced=io.recipe.train.class_weights == "balanced",
        seed=io.recipe.seed,
    )
    io.write(DRAFTS, synthesized.drafts)
    # Where drafts do not train, the table is empty, and what is written for the report alone changes no training.
    io.write(TRAINING_DRAFTS, [d for d in synthesized.drafts if io.recipe.synthesize.use and d.status == "accepted"])
    cost = cost_between(before, usage_of(io.llm("teacher")))
    spent = {"llm": cost} if cost["calls"] or cost["hits"] else {}
    return synthesized.report | {"recorded": bool(recorded), "waves": waves} | spent


def written_in_waves(io: StageIO, decisions: Sequence[Decision], waves: list[Report]) -> list[Draft]:
    """Return what a live teacher writes for the minority classes; nothing without one.

    A class gets `wave` drafts at a time, until it has those that are planned for it, or a wave adds less than
    `LEAST_WAVE_GAIN` to the recall of its held-out rows. What each wave did is added to `waves`.
    """
    config, labels = io.recipe.synthesize, io.labels
    planned = planned_drafts(decisions, labels, config)
    writer = draft_writer(io, decisions)
    if writer is None or not any(planned.values()):
        return []
    real = _real(decisions, np.load(io.input("clean/embeddings.npy")), labels)
    judging = _judging(decisions, io.read(TRUSTED), labels)
    nothing = CheckedDrafts(drafts=[], vectors={})

    def recall_with(checks: CheckedDrafts, label: str) -> float:
        return recall_at_own_count(
            real,
            checks.accepted(labels),
            judging,
            labels.index(label),
            len(labels),
            parents=_parents_of_accepted(checks.drafts, decisions),
            seed=io.recipe.seed,
        )

    drafts: list[Draft] = []
    best = {label: recall_with(nothing, label) for label in planned}
    left = dict(planned)
    while wanted := {label: min(config.wave, n) for label, n in left.items() if n > 0}:
        drafts += writer.write(wanted)
        checks = _checked(io, drafts, real, list(planned))
        for label, n in wanted.items():
            recall = recall_with(checks, label)
            n_accepted = sum(draft.status == "accepted" and draft.label == label for draft in checks.drafts)
            waves.append({"label": label, "drafts": n, "accepted": n_accepted, "recall": round(recall, 6)})
            left[label] = left[label] - n if recall >= best[label] + LEAST_WAVE_GAIN else 0
            best[label] = max(best[label], recall)
    return drafts


def _checked(io: StageIO, drafts: Sequence[Draft], real: Batch, minority: Sequence[str]) -> CheckedDrafts:
    return check_drafts(
        drafts,
        io.rows(),
        real,
        io.labels,
        minority,
        io.recipe.synthesize,
        embed=io.embed,
        relabel=lambda open_drafts: _blind_votes(io, open_drafts),
        seed=io.recipe.seed,
    )


def draft_writer(io: StageIO, decisions: Sequence[Decision]) -> DraftWriter | None:
    """Return what writes drafts from the training rows; None without a live teacher."""
    teacher = teacher_of(io, "teacher") if backend_of(io.recipe.teacher).is_live else None
    if teacher is None:
        return None
    decided = {decision.id: decision.label for decision in decisions if decision.weight > 0}
    return DraftWriter(
        [msgspec.structs.replace(row, label=decided[row.id]) for row in io.rows() if row.id in decided],
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
    from hybrid.data.training_rows import training_rows
    from hybrid.encoders.checkpoint import load_classifier, load_tokenizer
    from hybrid.encoders.exporting import checkpoint_logits
    from hybrid.teacher.drafts.gate import Training, encoder_gate

    decisions = io.read(DECISIONS)
    by_id = judging_labels(decisions, io.read(TRUSTED))
    train = io.rows("train")
    used = (
        {decision.id for decision in decisions if decision.weight > 0} if io.recipe.train.labels == "cleaned" else None
    )
    ids = [row.id for row in train if used is None or row.id in used]
    judging = [by_id.get(row_id) for row_id in ids]
    rows = training_rows(train, decisions, drafts, io.labels, io.recipe.train)
    real = [row for row in rows if not row.synthetic]

    def fit_predict(training: Training, texts: Sequence[str]) -> np.ndarray:
        weights = "balanced" if training.balanced else io.recipe.train.class_weights
        # Drafts have no reasons, and labels alone are compared: the trial trains without the evidence head.
        config = msgspec.structs.replace(io.recipe.train, class_weights=weights, evidence=msgspec.UNSET)
        checkpoint = fit(io, config, training.rows, name=f"trials/{training.name}").checkpoint
        model = load_classifier(checkpoint, io.labels).eval()
        logits = checkpoint_logits(model, load_tokenizer(checkpoint), texts, io.limits)
        return np.asarray(logits.argmax(axis=1))

    tried = encoder_gate(
        real,
        [row for row in rows if row.synthetic],
        np.array([NOT_JUDGED if label is None else io.labels.index(label) for label in judging]),
        io.labels,
        minority,
        parents=parent_places(drafts, ids),
        half=halves(ids, [io.labels[row.label] for row in real]),
        balanced=io.recipe.train.class_weights == "balanced",
        fit_predict=fit_predict,
    )
    shutil.rmtree(io.scratch() / "trials", ignore_errors=True)
    return tried


def _summary_line(report: Report) -> str:
    if not report["minority"]:
        return "no class is rare"
    accepted = f"{sum(report['accepted'].values())} of {report['drafts']} drafts accepted"
    gates = [gate for gate in (report.get("gate"), report.get("encoder_gate")) if gate]
    failed = [verdict["reason"] for gate in gates for verdict in gate["classes"] if not verdict["passed"]]
    return f"{accepted}; the gate: {'; '.join(failed)}" if failed else accepted


SYNTHESIZE = Stage(
    name="synthesize",
    purpose="cleaned rows -> drafts of rare classes, accepted and refused",
    version=8,
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
