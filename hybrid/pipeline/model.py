"""The second half of the story: from cleaned rows to a judged bundle.

Heavy libraries are imported where a stage works, so that a run with nothing to do ends in seconds.
"""

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hybrid.prompts import prompt_text
from hybrid.run import Report, settings_of
from hybrid.story import Story, remove_workdirs
from hybrid.table import read_rows, write_rows
from hybrid.types import Example, Trusted, Vote

if TYPE_CHECKING:
    from hybrid.reliability import Measured
    from hybrid.stages.evaluate import Ask, Evaluated


def train(story: Story) -> None:
    """cleaned + drafts -> checkpoint"""
    recipe, run = story.recipe, story.run
    drafts = story.uses_drafts()

    def work(key: str) -> Report:
        from hybrid.training_rows import training_rows

        accepted = story.drafts() if drafts else []
        given, decisions = story.rows("train"), story.decisions()
        rows = training_rows(given, decisions, accepted, story.labels, recipe.train, task=recipe.task)
        report, best = story.fit("train", key, recipe.train, rows)
        shutil.rmtree(run.path("train", "checkpoint"), ignore_errors=True)
        best.replace(run.path("train", "checkpoint"))
        remove_workdirs(run.path("train"))
        return report

    run.stage(
        "train",
        version=2,
        settings=settings_of(recipe.train, recipe.encoder, drafts, recipe.task, recipe.seed, story.encoder_hash()),
        inputs=[
            run.path("split", "rows.jsonl"),
            run.path("clean", "decisions.jsonl"),
            *([run.path("synthesize", "drafts.jsonl")] if drafts else []),
        ],
        outputs=[
            "train/history.jsonl",
            "train/checkpoint/config.json",
            "train/checkpoint/model.safetensors",
            "train/checkpoint/tokenizer.json",
        ],
        work=work,
        says=lambda r: (
            f"best epoch {r['best_epoch']:g}, {r['precision']}"
            + (f", {r['rows_per_second']} rows/s" if r["rows_per_second"] else "")
            + (f", resumed at step {r['resumed_from_step']}" if r["resumed_from_step"] else "")
        ),
    )


def export(story: Story) -> None:
    """checkpoint -> ONNX graph"""
    recipe, run = story.recipe, story.run

    def work(_: str) -> Report:
        from hybrid.stages.export import export

        found = export(
            run.path("train", "checkpoint"),
            story.rows("train"),
            story.labels,
            recipe.export,
            folder=run.path("export"),
            reading=story.reading,
            on_done=run.screen.advance,
        )
        write_rows(run.path("export", "parity.jsonl"), found.parity)
        return found.report

    run.stage(
        "export",
        version=2,
        settings=settings_of(recipe.export, story.reading),
        inputs=[
            run.path("split", "rows.jsonl"),
            run.path("train", "checkpoint", "model.safetensors"),
            run.path("train", "checkpoint", "tokenizer.json"),
        ],
        outputs=["export/model.onnx", "export/tokenizer.json", "export/parity.jsonl"],
        work=work,
        says=lambda r: f"{r['bytes'] / 1e6:.0f} MB, largest difference of a logit {r['max_abs_diff']:.1e}",
    )


def quantize(story: Story) -> None:
    """fp32 graph -> the fastest graph that decides as well"""
    recipe, run = story.recipe, story.run

    def work(_: str) -> Report:
        from hybrid.stages.quantize import quantize

        found = quantize(
            story.gate_rows(),
            story.labels,
            recipe.quantize,
            exported=run.path("export"),
            folder=run.path("quantize"),
            range_texts=story.range_texts(),
            reading=story.reading,
            seed=recipe.seed,
            task=recipe.task,
            on_done=run.screen.advance,
        )
        write_rows(run.path("quantize", "rungs.jsonl"), found.rungs)
        return found.report

    run.stage(
        "quantize",
        version=1,
        settings=settings_of(recipe.quantize, recipe.task, recipe.seed, story.reading),
        inputs=[
            run.path("split", "rows.jsonl"),
            run.path("clean", "decisions.jsonl"),
            run.path("export", "model.onnx"),
            run.path("export", "tokenizer.json"),
        ],
        outputs=["quantize/model.onnx", "quantize/tokenizer.json", "quantize/rungs.jsonl"],
        work=work,
        says=lambda r: f"{r['precision']}, {r['bytes'] / 1e6:.0f} MB ({r['bytes_fp32'] / 1e6:.0f} in fp32)",
    )


def calibrate(story: Story) -> None:
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


def _calibrated(story: Story) -> Report:
    """Calibrate what ships, write the bundle, and return the report."""
    from hybrid.bundling import write_bundle
    from hybrid.encoders.checkpoint import vocabulary_of
    from hybrid.runtime.encoder import Encoder
    from hybrid.runtime.golden import golden_texts
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


def _weigh_decoder(story: Story, rows: Sequence[Example], probs: np.ndarray) -> "Measured":
    """Return how far the decoder can be believed on the calibration rows of which the encoder is least sure."""
    from hybrid.reliability import Measured, measure_reliability

    config = story.recipe.calibrate
    order = probs.max(axis=1).argsort(kind="stable")[: config.decoder_rows]
    asked = story.ask_decoder([rows[i] for i in order])
    gold = np.array([story.labels.index(rows[i].label) for i in order])
    found = measure_reliability(
        probs[order], gold, asked.votes, story.labels, folds=config.folds, seed=story.recipe.seed
    )
    return Measured(reliability=found.reliability, report=asked.report | found.report)


def evaluate(story: Story) -> None:
    """test rows -> scores of the bundle: encoder alone, and with escalation"""
    recipe, run = story.recipe, story.run

    def work(_: str) -> Report:
        from hybrid.baseline import baselines
        from hybrid.stages.evaluate import wrong_share

        rows, train = story.rows("test"), story.rows("train")
        asked: Report = {}

        def ask(unsure: Sequence[Example]) -> list[Vote]:
            found = story.ask_decoder(unsure)
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


def _scores_in_fp32(story: Story, rows: Sequence[Example]) -> Report | None:
    """Return what the served precision is held against; None for several labels a text, which calibration decides."""
    from hybrid.metrics import accuracy, macro_f1
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


def _judge(story: Story, rows: Sequence[Example], ask: "Ask") -> "Evaluated":
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
        ask_everything=recipe.decoder.model == "recorded",
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
