"""The first part of the story: from given rows to rows worth training on.

Heavy libraries are imported where a stage works, so that a run with nothing to do ends in seconds.
"""

import numpy as np

from hybrid.artifacts import fetch
from hybrid.files.table import read_rows, write_rows
from hybrid.llm import usage_of
from hybrid.pipeline.context import RunContext
from hybrid.pipeline.llm_work import draft_votes, teacher_votes, written_drafts
from hybrid.pipeline.run import settings_of
from hybrid.prompts import prompt_text, text_hash
from hybrid.teacher.drafts.recorded import read_drafts
from hybrid.teacher.drafts.writing import cost_between
from hybrid.teacher.imported_votes import read_votes, tally
from hybrid.teacher.vote_collection import prompt_of
from hybrid.types import Report, Vote


def split(story: RunContext) -> None:
    """given rows -> train | calibration | test"""
    recipe, run = story.recipe, story.run
    data = recipe.data
    named = [name for name in (data.prepare, data.train, data.calibration, data.test) if name]
    files = [story.recipe_dir / name for name in named if not name.startswith("hf:")]

    def work(_: str) -> Report:
        from hybrid.data.escalated_rows import Joined, join_added
        from hybrid.data.sources import check_labels, labels_of, load_data
        from hybrid.stages.split import split

        found = load_data(
            data,
            folder=story.recipe_dir,
            seed=recipe.seed,
            fetch=lambda name: fetch(name, on_start=run.screen.say),
            task=recipe.task,
        )
        labels = recipe.labels or labels_of(found)
        check_labels(found, labels)
        dealt = split(found.rows, labels, recipe.split, seed=recipe.seed, task=recipe.task)
        joined = Joined(rows=dealt.rows, gold=dealt.gold, report=dealt.report)
        if added := story.added_rows(labels):
            joined = join_added(joined, added, near_duplicate=recipe.split.near_duplicate)
        write_rows(run.path("split", "rows.jsonl"), joined.rows)
        write_rows(run.path("split", "gold.jsonl"), joined.gold)
        return joined.report | {"labels": list(labels)}

    run.stage(
        "split",
        version=1,
        settings=settings_of(data, recipe.split, recipe.labels, recipe.task, recipe.seed),
        inputs=[file for file in [*files, story.added_file] if file.exists()],
        outputs=["split/rows.jsonl", "split/gold.jsonl"],
        work=work,
        says=lambda r: (
            ", ".join(f"{n} {part}" for part, n in r["parts"].items())
            + (f"; {r['near_duplicates']} near-duplicates" if r["near_duplicates"] else "")
            + (f"; {r['escalated_rows']} texts that escalated" if r.get("escalated_rows") else "")
        ),
    )


def verify(story: RunContext) -> None:
    """train rows -> votes"""
    recipe, run = story.recipe, story.run
    prompt = prompt_text(prompt_of(recipe.verify))

    def work(_: str) -> Report:
        asked = teacher_votes(story, story.rows("train"))
        imported = read_votes(recipe.verify.imports, story.recipe_dir, story.rows(), story.labels)
        write_rows(run.path("verify", "votes.jsonl"), [*asked.votes, *imported])
        hashes = {"prompt": text_hash(prompt), "policy": text_hash(story.policy(recipe.teacher))}
        return asked.report | hashes | {"imported": tally(imported)}

    run.stage(
        "verify",
        version=2,
        settings=settings_of(recipe.verify, recipe.teacher, prompt, _order_settings(story)),
        inputs=[
            run.path("split", "rows.jsonl"),
            *story.llm_files(recipe.teacher),
            *story.llm_files(recipe.second),
            *(path for name in recipe.verify.imports for path in story.files(name)),
            *(story.trusted_files() if recipe.verify.max_calls else []),
        ],
        outputs=["verify/votes.jsonl"],
        work=work,
        says=lambda r: (
            (f"{r['ok']} votes of {r['asked']} asked" if r["asked"] else "no teacher: labels as given")
            + "".join(f"; {n} imported from {source}" for source, n in r["imported"].items())
        ),
    )


def _order_settings(story: RunContext) -> object:
    """Return what the order of the teacher's calls depends on; None where every row is asked the same."""
    recipe = story.recipe
    if not (recipe.verify.max_calls or recipe.verify.more_calls):
        return None
    trusted = recipe.data.trusted if recipe.verify.max_calls else 0
    return [recipe.second, recipe.encoder, story.encoder_hash(), recipe.clean.folds, recipe.seed, trusted]


def clean(story: RunContext) -> None:
    """train + votes -> keep, relabel, drop, review"""
    recipe, run = story.recipe, story.run

    def work(_: str) -> Report:
        from hybrid.stages.clean import clean, keep_as_given

        trusted = story.trusted()
        write_rows(run.path("clean", "trusted.jsonl"), trusted)
        rows, votes = story.rows("train"), read_rows(run.path("verify", "votes.jsonl"), Vote)
        if recipe.task == "multi_label":
            found = keep_as_given(rows, story.labels)
        else:
            found = clean(rows, votes, story.labels, recipe.clean, embed=story.embed, seed=recipe.seed, trusted=trusted)
        write_rows(run.path("clean", "decisions.jsonl"), found.decisions)
        for name, array in (("embeddings", found.embeddings), ("classifier", found.classifier.astype(np.float32))):
            with (run.path("clean") / f"{name}.npy").open("wb") as file:
                np.save(file, array)
        return found.report

    run.stage(
        "clean",
        version=3,
        settings=settings_of(
            recipe.clean, recipe.data.trusted, recipe.encoder, recipe.task, recipe.seed, story.encoder_hash()
        ),
        inputs=[run.path("split", "rows.jsonl"), run.path("verify", "votes.jsonl"), *story.trusted_files()],
        outputs=["clean/decisions.jsonl", "clean/trusted.jsonl", "clean/embeddings.npy", "clean/classifier.npy"],
        work=work,
        says=lambda r: (
            f"{r['method']}: "
            + ", ".join(f"{n} {action}" for action, n in r["actions"].items())
            + (f"; {sum(r['trusted'].values())} trusted rows" if r["trusted"] else "")
            + "".join(f"; {name} is not heard: its votes are worth too little" for name in r["not_heard"])
        ),
    )


def synthesize(story: RunContext) -> None:
    """cleaned rows -> drafts accepted and refused"""
    recipe, run = story.recipe, story.run
    recorded = story.files(recipe.synthesize.drafts)

    def work(key: str) -> Report:
        from hybrid.pipeline.draft_trial import try_drafts
        from hybrid.stages.synthesize import nothing_written, synthesize

        if recipe.task == "multi_label":
            write_rows(run.path("synthesize", "drafts.jsonl"), [])
            return nothing_written(story.labels) | {"recorded": False}
        rows, decisions = story.rows(), story.decisions()
        before = usage_of(story.llm("teacher"))
        drafts = read_drafts(recorded[0]) if recorded else written_drafts(story, rows, decisions)
        found = synthesize(
            drafts,
            rows,
            decisions,
            np.load(run.path("clean", "embeddings.npy")),
            story.labels,
            recipe.synthesize,
            embed=story.embed,
            relabel=lambda drafts: draft_votes(story, drafts),
            trial=lambda drafts, minority: try_drafts(story, key, drafts, minority),
            balanced=recipe.train.class_weights == "balanced",
            seed=recipe.seed,
        )
        write_rows(run.path("synthesize", "drafts.jsonl"), found.drafts)
        cost = cost_between(before, usage_of(story.llm("teacher")))
        return found.report | {"recorded": bool(recorded)} | ({"llm": cost} if cost["calls"] or cost["hits"] else {})

    run.stage(
        "synthesize",
        version=3,
        settings=settings_of(
            recipe.synthesize,
            recipe.teacher,
            recipe.encoder,
            recipe.task,
            # A batch that must earn its place is tried with the whole training.
            recipe.train if recipe.synthesize.use == "auto" else recipe.train.class_weights,
            recipe.seed,
            prompt_text("synthesize"),
            prompt_text("attributes"),
            prompt_text(prompt_of(recipe.verify)),
        ),
        inputs=[
            run.path("split", "rows.jsonl"),
            run.path("clean", "decisions.jsonl"),
            *recorded,
            *story.llm_files(recipe.teacher),
        ],
        outputs=["synthesize/drafts.jsonl"],
        work=work,
        says=_says_synthesize,
    )


def _says_synthesize(report: Report) -> str:
    accepted = f"{sum(report['accepted'].values())} of {report['drafts']} drafts accepted"
    judged = [one for one in (report.get("gate"), report.get("encoder_gate")) if one]
    failed = next((one["reason"] for one in judged if not one["passed"]), "")
    return f"{accepted}; the gate: {failed}" if failed else accepted
