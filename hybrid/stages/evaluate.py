"""evaluate: score the bundle on the test rows, alone and with escalation."""

from collections.abc import Sequence

import numpy as np

from hybrid.calibration.refitted_limit import refitted_ece
from hybrid.config import Recipe
from hybrid.evaluation.bundle_scores import Answers, Ask, Evaluated, evaluate, evaluate_sets, rounded, wrong_share
from hybrid.evaluation.metrics import (
    accuracy,
    macro_f1,
)
from hybrid.label_sets import index_by_label
from hybrid.llm import backend_of
from hybrid.runtime.calibration import apply
from hybrid.stages.asking import decoder_votes
from hybrid.stages.stage import DECISIONS, GOLD, JUDGED, LABELS, ROWS, SCORED, TRUSTED, Reads, Stage, StageIO
from hybrid.types import Example, Report, Vote


def _reads(_: Recipe) -> Reads:
    return Reads(
        settings=("evaluate", "encoder", "task", "seed"),
        tables=(ROWS, GOLD, DECISIONS, TRUSTED, SCORED),
        files=(
            "bundle/bundle.json",
            "bundle/model.onnx",
            "bundle/tokenizer.json",
            "export/model.onnx",
            "export/tokenizer.json",
        ),
        reports=(LABELS, "split.judged_by_gold", "split.twins"),
        llms=("decoder",),
        prompts=("decide",),
    )


def _work(io: StageIO) -> Report:
    from hybrid.evaluation.baseline import baselines

    rows, train = io.rows("test"), io.rows("train")
    asked: Report = {}

    def ask(unsure: Sequence[Example]) -> list[Vote]:
        answered = decoder_votes(io, unsure)
        asked.update(answered.report)
        return answered.votes

    evaluated = _score_bundle(io, rows, ask)
    io.write(JUDGED, evaluated.judged)
    gold = {row.id: row.label for row in io.read(GOLD)}
    decided = {decision.id: decision.label for decision in io.read(DECISIONS)}
    targets = {"given": [row.label for row in train], "cleaned": [decided[row.id] for row in train]}
    if all(row.id in gold for row in train):
        targets["gold"] = [gold[row.id] for row in train]
    return evaluated.report | {
        "labels": _wrong_labels(io, train, decided),
        "tfidf": baselines(train, targets, rows, io.labels, task=io.recipe.task),
        "fp32": _scores_in_fp32(io, rows),
        "decoder": asked,
        "judged_by_gold": io.report_field("split.judged_by_gold"),
        "trusted": io.report_field("split.judged_by_gold"),  # its name in version 0.1.0
        "complete": asked.get("complete", True),
    }


def _wrong_labels(io: StageIO, train: Sequence[Example], decided: dict[str, str]) -> dict[str, float | None]:
    """The share of training labels that differ from gold, before and after cleaning."""
    gold, trusted = io.read(GOLD), {row.id for row in io.read(TRUSTED)}
    untrusted = {row_id: label for row_id, label in decided.items() if row_id not in trusted}
    return {
        "wrong_given": wrong_share({row.id: row.label for row in train}, gold),
        "wrong_cleaned": wrong_share(decided, gold),
        "wrong_cleaned_untrusted": wrong_share(untrusted, gold),
    }


def _scores_in_fp32(io: StageIO, rows: Sequence[Example]) -> Report | None:
    """The scores of the fp32 graph, calibrated as the served one is, for comparison; None for several labels a text."""
    from hybrid.runtime import load
    from hybrid.runtime.encoder import Encoder

    if io.recipe.task == "multi_label":
        return None
    encoder = Encoder(io.input_folder("export"), n_labels=len(io.labels), reading=io.limits)
    calibration = load(io.input_folder("bundle")).bundle.calibration
    best = apply(calibration, encoder.logits([row.text for row in rows])).argmax(axis=1)
    position = index_by_label(io.labels)
    gold = np.array([position[row.label] for row in rows])
    return {"accuracy": rounded(accuracy(gold, best)), "macro_f1": rounded(macro_f1(gold, best, len(io.labels)))}


def _score_bundle(io: StageIO, rows: Sequence[Example], ask: Ask) -> Evaluated:
    """What the bundle answers on the test rows, and its scores."""
    from hybrid.runtime import load

    classifier = load(io.input_folder("bundle"))
    bundle, logits = classifier.bundle, classifier.logits([row.text for row in rows])
    leaked_ids, seed = frozenset(io.report_field("split.twins")), io.recipe.seed
    calibration_logits = np.array([row.logits for row in io.read(SCORED)])
    refitted = refitted_ece(bundle.calibration, calibration_logits, logits, seed=seed)
    if io.recipe.task == "multi_label":
        return evaluate_sets(
            rows,
            logits,
            bundle.calibration,
            io.labels,
            io.recipe.evaluate,
            threshold=bundle.threshold.value,
            leaked_ids=leaked_ids,
            refitted=refitted,
            seed=seed,
        )
    return evaluate(
        rows,
        Answers(logits=logits, probs=apply(bundle.calibration, logits), refitted=refitted),
        io.labels,
        io.recipe.evaluate,
        threshold=bundle.threshold.value,
        leaked_ids=leaked_ids,
        ask=ask,
        ask_everything=backend_of(io.recipe.decoder).is_recorded,
        reliability=bundle.decoder,
        seed=seed,
    )


def _line(report: Report) -> str:
    """The scores of the encoder, and of the cascade where a decoder answered."""
    encoder, cascade = report["encoder"], report["threshold"]
    escalated = f"; with escalation {cascade['accuracy']:.3f}" if cascade["answered"] else ""
    return f"accuracy {encoder['accuracy']:.3f}, macro-F1 {encoder['macro_f1']:.3f}{escalated}"


EVALUATE = Stage(
    name="evaluate",
    purpose="test rows -> scores of the bundle: encoder alone, and with escalation",
    version=5,
    reads=_reads,
    writes=(JUDGED.path,),
    code=(
        "hybrid.calibration.averaging",
        "hybrid.calibration.calibrators",
        "hybrid.calibration.label_calibrators",
        "hybrid.calibration.refitted_limit",
        "hybrid.data.folds",
        "hybrid.evaluation",
        "hybrid.label_sets",
        "hybrid.llm",
        "hybrid.runtime",
        "hybrid.stages.asking",
        "hybrid.teacher",
    ),
    work=_work,
    summary_line=_line,
)
