"""The story: the stages in their order, what each reads and what it leaves on disk.

Heavy libraries are imported where a stage works, so that a run with nothing to do ends in seconds.
"""

import shutil
from collections.abc import Sequence

import numpy as np

from hybrid.artifacts import fetch
from hybrid.prompts import prompt_text
from hybrid.recorded_drafts import read_drafts
from hybrid.run import Report, settings_of
from hybrid.story import Story, remove_workdirs
from hybrid.table import read_rows, write_rows
from hybrid.types import Example, Vote


def run_stages(story: Story) -> None:
    """Take a recipe from data to a judged bundle. What is finished and unchanged is skipped."""
    story.check_llms()
    split(story)
    verify(story)
    clean(story)
    synthesize(story)
    train(story)
    export(story)
    calibrate(story)
    evaluate(story)


def split(story: Story) -> None:
    """given rows -> train | calibration | test"""
    recipe, run = story.recipe, story.run
    data = recipe.data
    named = [name for name in (data.prepare, data.train, data.calibration, data.test) if name]
    files = [story.recipe_dir / name for name in named if not name.startswith("hf:")]

    def work(_: str) -> Report:
        from hybrid.sources import check_labels, labels_of, load_data
        from hybrid.stages.split import split

        found = load_data(
            data, folder=story.recipe_dir, seed=recipe.seed, fetch=lambda name: fetch(name, on_start=run.screen.say)
        )
        labels = recipe.labels or labels_of(found)
        check_labels(found, labels)
        dealt = split(found.rows, labels, recipe.split, seed=recipe.seed)
        write_rows(run.path("split", "rows.jsonl"), dealt.rows)
        write_rows(run.path("split", "gold.jsonl"), dealt.gold)
        return dealt.report | {"labels": list(labels)}

    run.stage(
        "split",
        version=1,
        settings=settings_of(data, recipe.split, recipe.labels, recipe.seed),
        inputs=[file for file in files if file.exists()],
        outputs=["split/rows.jsonl", "split/gold.jsonl"],
        work=work,
        says=lambda r: (
            ", ".join(f"{n} {part}" for part, n in r["parts"].items())
            + (f"; {r['near_duplicates']} near-duplicates" if r["near_duplicates"] else "")
        ),
    )


def verify(story: Story) -> None:
    """train rows -> votes"""
    recipe, run = story.recipe, story.run

    def work(_: str) -> Report:
        asked = story.ask_teacher(story.rows("train"))
        write_rows(run.path("verify", "votes.jsonl"), asked.votes)
        return asked.report

    run.stage(
        "verify",
        version=1,
        settings=settings_of(recipe.verify, recipe.teacher, prompt_text("verify")),
        inputs=[run.path("split", "rows.jsonl"), *story.llm_files(recipe.teacher)],
        outputs=["verify/votes.jsonl"],
        work=work,
        says=lambda r: f"{r['ok']} votes of {r['asked']} asked" if r["asked"] else "no teacher: labels as given",
    )


def clean(story: Story) -> None:
    """train + votes -> keep, relabel, drop, review"""
    recipe, run = story.recipe, story.run

    def work(_: str) -> Report:
        from hybrid.stages.clean import clean

        votes = read_rows(run.path("verify", "votes.jsonl"), Vote)
        found = clean(story.rows("train"), votes, story.labels, recipe.clean, embed=story.embed, seed=recipe.seed)
        write_rows(run.path("clean", "decisions.jsonl"), found.decisions)
        with (run.path("clean") / "embeddings.npy").open("wb") as file:
            np.save(file, found.embeddings)
        return found.report

    run.stage(
        "clean",
        version=1,
        settings=settings_of(recipe.clean, recipe.encoder, recipe.seed, story.encoder_hash()),
        inputs=[run.path("split", "rows.jsonl"), run.path("verify", "votes.jsonl")],
        outputs=["clean/decisions.jsonl", "clean/embeddings.npy"],
        work=work,
        says=lambda r: ", ".join(f"{n} {action}" for action, n in r["actions"].items()),
    )


def synthesize(story: Story) -> None:
    """cleaned rows -> drafts accepted and refused"""
    recipe, run = story.recipe, story.run
    recorded = story.files(recipe.synthesize.drafts)

    def work(_: str) -> Report:
        from hybrid.stages.synthesize import synthesize

        rows, decisions = story.rows(), story.decisions()
        drafts = read_drafts(recorded[0]) if recorded else story.write_drafts(rows, decisions)
        found = synthesize(
            drafts,
            rows,
            decisions,
            np.load(run.path("clean", "embeddings.npy")),
            story.labels,
            recipe.synthesize,
            embed=story.embed,
            relabel=story.relabel,
        )
        write_rows(run.path("synthesize", "drafts.jsonl"), found.drafts)
        return found.report | {"recorded": bool(recorded)}

    run.stage(
        "synthesize",
        version=1,
        settings=settings_of(
            recipe.synthesize, recipe.teacher, recipe.encoder, prompt_text("synthesize"), prompt_text("verify")
        ),
        inputs=[
            run.path("split", "rows.jsonl"),
            run.path("clean", "decisions.jsonl"),
            *recorded,
            *story.llm_files(recipe.teacher),
        ],
        outputs=["synthesize/drafts.jsonl"],
        work=work,
        says=lambda r: (
            f"{sum(r['accepted'].values())} of {r['drafts']} drafts accepted"
            + ("" if recipe.synthesize.use else "; not used for training")
        ),
    )


def train(story: Story) -> None:
    """cleaned + drafts -> checkpoint"""
    recipe, run = story.recipe, story.run
    drafts = recipe.synthesize.use

    def work(key: str) -> Report:
        from hybrid.stages.train import training_rows

        accepted = story.drafts() if drafts else []
        rows = training_rows(story.rows("train"), story.decisions(), accepted, story.labels, recipe.train)
        report, best = story.fit("train", key, recipe.train, rows)
        shutil.rmtree(run.path("train", "checkpoint"), ignore_errors=True)
        best.replace(run.path("train", "checkpoint"))
        remove_workdirs(run.path("train"))
        return report

    run.stage(
        "train",
        version=1,
        settings=settings_of(recipe.train, recipe.encoder, drafts, recipe.seed, story.encoder_hash()),
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
            max_length=recipe.encoder.max_length,
            on_done=run.screen.advance,
        )
        write_rows(run.path("export", "parity.jsonl"), found.parity)
        return found.report

    run.stage(
        "export",
        version=1,
        settings=settings_of(recipe.export, recipe.encoder.max_length),
        inputs=[
            run.path("split", "rows.jsonl"),
            run.path("train", "checkpoint", "model.safetensors"),
            run.path("train", "checkpoint", "tokenizer.json"),
        ],
        outputs=["export/model.onnx", "export/tokenizer.json", "export/parity.jsonl"],
        work=work,
        says=lambda r: f"{r['bytes'] / 1e6:.0f} MB, largest difference of a logit {r['max_abs_diff']:.1e}",
    )


def calibrate(story: Story) -> None:
    """calibration rows -> probabilities and threshold of what ships, and the bundle"""
    recipe, run = story.recipe, story.run

    def work(_: str) -> Report:
        from hybrid.bundling import write_bundle
        from hybrid.runtime.encoder import Encoder
        from hybrid.stages.calibrate import calibrate

        rows = story.rows("calibration")
        encoder = Encoder(run.path("export"), n_labels=len(story.labels))
        logits = encoder.logits([row.text for row in rows], on_done=run.screen.advance)
        found = calibrate(
            rows,
            story.labels,
            logits,
            recipe.calibrate,
            seed=recipe.seed,
            trusted=bool(run.report("split")["trusted"]),
        )
        write_rows(run.path("calibrate", "scored.jsonl"), found.scored)
        write_bundle(
            run.path("bundle"),
            exported=run.path("export"),
            recipe=recipe,
            labels=story.labels,
            calibration=found.calibration,
            threshold=found.threshold,
            policy=story.policy(recipe.decoder),
        )
        return found.report

    run.stage(
        "calibrate",
        version=1,
        settings=settings_of(recipe.calibrate, recipe.decoder.policy, recipe.encoder, recipe.name, recipe.seed),
        inputs=[
            run.path("split", "rows.jsonl"),
            run.path("export", "model.onnx"),
            run.path("export", "tokenizer.json"),
            *story.policy_files(recipe.decoder),
        ],
        outputs=["calibrate/scored.jsonl", "bundle/bundle.json", "bundle/model.onnx", "bundle/tokenizer.json"],
        work=work,
        says=_says_calibrate,
    )


def evaluate(story: Story) -> None:
    """test rows -> scores of the bundle: encoder alone, and with escalation"""
    recipe, run = story.recipe, story.run

    def work(_: str) -> Report:
        from hybrid.runtime import load
        from hybrid.runtime.calibration import apply
        from hybrid.stages.evaluate import Answers, baselines, evaluate, wrong_share

        rows, train = story.rows("test"), story.rows("train")
        classifier = load(run.path("bundle"))
        logits = classifier.logits([row.text for row in rows])
        asked: Report = {}

        def ask(unsure: Sequence[Example]) -> list[Vote]:
            found = story.ask_decoder(unsure)
            asked.update(found.report)
            return found.votes

        found = evaluate(
            rows,
            Answers(logits=logits, probs=apply(classifier.bundle.calibration, logits)),
            story.labels,
            recipe.evaluate,
            threshold=classifier.bundle.threshold.value,
            twins=frozenset(run.report("split")["twins"]),
            ask=ask,
            ask_everything=recipe.decoder.model == "recorded",
            seed=recipe.seed,
        )
        write_rows(run.path("evaluate", "judged.jsonl"), found.judged)
        given = {row.id: row.label for row in train}
        decided = {decision.id: decision.label for decision in story.decisions()}
        gold = {row.id: row.label for row in story.gold()}
        targets = {"given": list(given.values()), "cleaned": [decided[row.id] for row in train]}
        if all(row.id in gold for row in train):
            targets["gold"] = [gold[row.id] for row in train]
        return found.report | {
            "labels": {
                "wrong_given": wrong_share(given, story.gold()),
                "wrong_cleaned": wrong_share(decided, story.gold()),
            },
            "tfidf": baselines(train, targets, rows, story.labels),
            "decoder": asked,
            "trusted": run.report("split")["trusted"],
            "complete": asked.get("complete", True),
        }

    run.stage(
        "evaluate",
        version=1,
        settings=settings_of(recipe.evaluate, recipe.decoder, recipe.seed, prompt_text("decide")),
        inputs=[
            run.path("split", "rows.jsonl"),
            run.path("split", "gold.jsonl"),
            run.path("clean", "decisions.jsonl"),
            run.path("bundle", "bundle.json"),
            run.path("bundle", "model.onnx"),
            *story.llm_files(recipe.decoder),
        ],
        outputs=["evaluate/judged.jsonl"],
        work=work,
        says=lambda r: (
            f"accuracy {r['encoder']['accuracy']:.3f}, macro-F1 {r['encoder']['macro_f1']:.3f}; "
            f"with escalation {r['threshold']['accuracy']:.3f}"
        ),
    )


def _says_calibrate(report: Report) -> str:
    threshold = report["threshold"]
    kept = (
        f"threshold {threshold['value']:.3f} keeps {threshold['kept']:.0%}"
        if threshold["met"]
        else f"{threshold['n_rows']} rows do not support {threshold['target']:.0%}: everything escalates"
    )
    return f"{report['method']}, {kept}"
