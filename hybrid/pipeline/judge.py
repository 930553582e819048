"""The last part of the story: from a graph to a judged bundle.

Heavy libraries are imported where a stage works, so that a run with nothing to do ends in seconds.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hybrid.files.table import read_rows, write_rows
from hybrid.llm import backend_of
from hybrid.pipeline.context import RunContext
from hybrid.pipeline.llm_work import decoder_votes
from hybrid.pipeline.run import settings_of
from hybrid.prompts import prompt_text
from hybrid.types import Example, Report, Trusted, Vote

if TYPE_CHECKING:
    from hybrid.calibration.reliability import Measured
    from hybrid.stages.evaluate import Ask, Evaluated


def calibrate(story: RunContext) -> None:
    """calibration rows -> probabilities and threshold of what ships, and the bundle"""
    recipe, run = story.recipe, story.run

    run.stage(
        "calibrate",
        version=4,
        settings=settings_of(
            recipe.calibrate,
            recipe.decoder.policy,
            [recipe.decoder, prompt_text("decide")] if story.weighs_decoder() else None,
            recipe.encoder,
            recipe.name,
            recipe.task,
            recipe.seed,
        ),
        inputs=[
            run.path("split", "rows.jsonl"),
            run.path("quantize", "model.onnx"),
            run.path("quantize", "tokenizer.json"),
            *(story.llm_files(recipe.decoder) if story.weighs_decoder() else story.policy_files(recipe.decoder)),
        ],
        outputs=["calibrate/scored.jsonl", "bundle/bundle.json", "bundle/model.onnx", "bundle/tokenizer.json"],
        work=lambda _: _calibrated(story),
        says=_says_calibrate,
    )


def _calibrated(story: RunContext) -> Report:
    """Calibrate what ships, write the bundle, and return the report."""
    from hybrid.encoders.checkpoint import vocabulary_of
    from hybrid.pipeline.bundle_writer import write_bundle
    from hybrid.runtime.encoder import Encoder
    from hybrid.runtime.integrity import golden_texts
    from hybrid.stages.calibrate import calibrate

    recipe, run = story.recipe, story.run
    rows = story.rows("calibration")
    encoder = Encoder(run.path("quantize"), n_labels=len(story.labels), reading=story.reading)
    encoded = encoder.encode([row.text for row in rows])
    logits = encoder.run(encoded, on_done=run.screen.advance)
    found = calibrate(
        rows,
        story.labels,
        logits,
        recipe.calibrate,
        seed=recipe.seed,
        trusted=bool(run.report("split")["trusted"]),
        task=recipe.task,
        tokens=[len(one) for one in encoded],
    )
    weighed = _weigh_decoder(story, rows, found.held_out) if story.weighs_decoder() else None
    write_rows(run.path("calibrate", "scored.jsonl"), found.scored)
    write_bundle(
        run.path("bundle"),
        exported=run.path("quantize"),
        recipe=recipe,
        labels=story.labels,
        reading=story.reading,
        calibration=found.calibration,
        threshold=found.threshold,
        policy=story.policy(recipe.decoder),
        vocabulary=vocabulary_of(run.path("train", "checkpoint")),
        golden_texts=golden_texts([row.text for row in story.rows("train")]),
        precision=run.report("quantize")["precision"],
        reference=found.reference,
        decoder=weighed.reliability if weighed else None,
    )
    said = weighed.report if weighed else {}
    return found.report | {"decoder": said or None, "complete": said.get("complete", True)}


def _weigh_decoder(story: RunContext, rows: Sequence[Example], probs: np.ndarray) -> "Measured":
    """Return how far the decoder can be believed on the calibration rows of which the encoder is least sure."""
    from hybrid.calibration.reliability import Measured, measure_reliability

    config = story.recipe.calibrate
    order = probs.max(axis=1).argsort(kind="stable")[: config.decoder_rows]
    asked = decoder_votes(story, [rows[i] for i in order])
    gold = np.array([story.labels.index(rows[i].label) for i in order])
    found = measure_reliability(
        probs[order], gold, asked.votes, story.labels, folds=config.folds, seed=story.recipe.seed
    )
    return Measured(reliability=found.reliability, report=asked.report | found.report)


def evaluate(story: RunContext) -> None:
    """test rows -> scores of the bundle: encoder alone, and with escalation"""
    recipe, run = story.recipe, story.run

    def work(_: str) -> Report:
        from hybrid.evaluation.baseline import baselines
        from hybrid.stages.evaluate import wrong_share

        rows, train = story.rows("test"), story.rows("train")
        asked: Report = {}

        def ask(unsure: Sequence[Example]) -> list[Vote]:
            found = decoder_votes(story, unsure)
            asked.update(found.report)
            return found.votes

        found = _judge(story, rows, ask)
        write_rows(run.path("evaluate", "judged.jsonl"), found.judged)
        given = {row.id: row.label for row in train}
        decided = {decision.id: decision.label for decision in story.decisions()}
        gold = {row.id: row.label for row in story.gold()}
        trusted = {row.id for row in read_rows(run.path("clean", "trusted.jsonl"), Trusted)}
        targets = {"given": list(given.values()), "cleaned": [decided[row.id] for row in train]}
        if all(row.id in gold for row in train):
            targets["gold"] = [gold[row.id] for row in train]
        return found.report | {
            "labels": {
                "wrong_given": wrong_share(given, story.gold()),
                "wrong_cleaned": wrong_share(decided, story.gold()),
                "wrong_cleaned_untrusted": wrong_share(
                    {row_id: label for row_id, label in decided.items() if row_id not in trusted}, story.gold()
                ),
            },
            "tfidf": baselines(train, targets, rows, story.labels, task=recipe.task),
            "fp32": _scores_in_fp32(story, rows),
            "decoder": asked,
            "trusted": run.report("split")["trusted"],
            "complete": asked.get("complete", True),
        }

    run.stage(
        "evaluate",
        version=3,
        settings=settings_of(recipe.evaluate, recipe.decoder, recipe.task, recipe.seed, prompt_text("decide")),
        inputs=[
            run.path("split", "rows.jsonl"),
            run.path("split", "gold.jsonl"),
            run.path("clean", "decisions.jsonl"),
            run.path("clean", "trusted.jsonl"),
            run.path("bundle", "bundle.json"),
            run.path("bundle", "model.onnx"),
            run.path("export", "model.onnx"),
            *story.llm_files(recipe.decoder),
        ],
        outputs=["evaluate/judged.jsonl"],
        work=work,
        says=lambda r: (
            f"accuracy {r['encoder']['accuracy']:.3f}, macro-F1 {r['encoder']['macro_f1']:.3f}; "
            f"with escalation {r['threshold']['accuracy']:.3f}"
        ),
    )


def _scores_in_fp32(story: RunContext, rows: Sequence[Example]) -> Report | None:
    """Return what the served precision is held against; None for several labels a text, which calibration decides."""
    from hybrid.evaluation.metrics import accuracy, macro_f1
    from hybrid.runtime.encoder import Encoder

    if story.recipe.task == "multi_label":
        return None
    encoder = Encoder(story.run.path("export"), n_labels=len(story.labels), reading=story.reading)
    best = encoder.logits([row.text for row in rows]).argmax(axis=1)
    place = {label: i for i, label in enumerate(story.labels)}
    gold = np.array([place[row.label] for row in rows])
    return {
        "accuracy": round(accuracy(gold, best), 6),
        "macro_f1": round(macro_f1(gold, best, len(story.labels)), 6),
    }


def _judge(story: RunContext, rows: Sequence[Example], ask: "Ask") -> "Evaluated":
    """Return what the bundle says of the test rows, judged."""
    from hybrid.runtime import load
    from hybrid.runtime.calibration import apply
    from hybrid.stages.evaluate import Answers, evaluate, evaluate_sets

    recipe, run = story.recipe, story.run
    classifier = load(run.path("bundle"))
    bundle, logits = classifier.bundle, classifier.logits([row.text for row in rows])
    threshold, twins = bundle.threshold.value, frozenset(run.report("split")["twins"])
    if recipe.task == "multi_label":
        return evaluate_sets(
            rows,
            logits,
            bundle.calibration,
            story.labels,
            recipe.evaluate,
            threshold=threshold,
            twins=twins,
            seed=recipe.seed,
        )
    return evaluate(
        rows,
        Answers(logits=logits, probs=apply(bundle.calibration, logits)),
        story.labels,
        recipe.evaluate,
        threshold=threshold,
        twins=twins,
        ask=ask,
        ask_everything=backend_of(recipe.decoder).is_recorded,
        reliability=bundle.decoder,
        seed=recipe.seed,
    )


def _says_calibrate(report: Report) -> str:
    threshold = report["threshold"]
    kept = (
        f"threshold {threshold['value']:.3f} keeps {threshold['kept']:.0%}"
        if threshold["met"]
        else f"{threshold['n_rows']} rows do not support {threshold['target']:.0%}: everything escalates"
    )
    return f"{report['method']}, {kept}"
