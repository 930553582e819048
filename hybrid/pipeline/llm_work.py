"""What a run has its language models do: teachers vote and write, the decoder decides."""

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from hybrid.llm import backend_of
from hybrid.pipeline.context import RunContext
from hybrid.teacher.ask import AskedVotes, ask_decoder
from hybrid.teacher.drafts.writing import write_drafts
from hybrid.teacher.row_selection import TrustedRows
from hybrid.teacher.vote_collection import Teacher, ask_votes, collect_votes, prompt_of
from hybrid.types import Decision, Draft, Example, Vote


def teacher_votes(story: RunContext, rows: Sequence[Example]) -> AskedVotes:
    """Return the teachers' blind votes on training rows, with the books."""
    return collect_votes(
        rows,
        story.labels,
        story.recipe.verify,
        teacher=_teacher(story, "teacher"),
        second=_teacher(story, "second") if story.recipe.verify.more == "second" else None,
        beliefs=lambda: _beliefs(story, rows),
        on_done=story.run.screen.advance,
        trusted=_trusted_rows(story, rows) if story.recipe.verify.max_calls else None,
    )


def decoder_votes(story: RunContext, rows: Sequence[Example]) -> AskedVotes:
    """Return the decoder's votes on rows, with the books."""
    config = story.recipe.decoder
    return ask_decoder(
        rows,
        story.labels,
        decoder=story.llm("decoder"),
        llm=config,
        policy=story.policy(config),
        on_done=story.run.screen.advance,
    )


def draft_votes(story: RunContext, drafts: Sequence[Draft]) -> Sequence[Vote]:
    """Return a live teacher's blind votes on drafts; a recorded one knows none of them."""
    if not backend_of(story.recipe.teacher).is_live:
        return []
    written = [Example(id=d.id, text=d.text, label=d.label, origin="synthetic", parents=d.parents) for d in drafts]
    teacher = _teacher(story, "teacher")
    assert teacher is not None
    return ask_votes(
        [(row, 0) for row in written],
        story.labels,
        prompt_of(story.recipe.verify),
        teacher=teacher,
    )


def written_drafts(story: RunContext, rows: Sequence[Example], decisions: Sequence[Decision]) -> list[Draft]:
    """Return what a live teacher writes for the minority classes; nothing without one."""
    from hybrid.stages.synthesize import minority_classes

    teacher = _teacher(story, "teacher") if backend_of(story.recipe.teacher).is_live else None
    if teacher is None or not story.recipe.synthesize.per_class:
        return []
    decided = {decision.id: decision.label for decision in decisions if decision.weight > 0}
    return write_drafts(
        [msgspec.structs.replace(row, label=decided[row.id]) for row in rows if row.id in decided],
        minority_classes(decisions, story.labels, story.recipe.synthesize),
        story.labels,
        story.recipe.synthesize,
        teacher=teacher,
        seed=story.recipe.seed,
        on_done=story.run.screen.advance,
    )


def _teacher(story: RunContext, role: Literal["teacher", "second"]) -> Teacher | None:
    """Return a teacher with its settings and policy; None where the recipe has none."""
    config = story.recipe.teacher if role == "teacher" else story.recipe.second
    llm = story.llm(role)
    return Teacher(llm=llm, config=config, policy=story.policy(config)) if llm is not None else None


def _trusted_rows(story: RunContext, rows: Sequence[Example]) -> TrustedRows | None:
    """Return what the trusted rows teach before any vote; None without one."""
    trusted = story.trusted()

    def repaired() -> np.ndarray:
        from hybrid.stages.clean import clean

        config = msgspec.structs.replace(story.recipe.clean, method="repair")
        found = clean(rows, [], story.labels, config, embed=story.embed, seed=story.recipe.seed, trusted=trusted)
        return np.array([decision.probs for decision in found.decisions])

    return TrustedRows(frozenset(one.id for one in trusted), repaired) if trusted else None


def _beliefs(story: RunContext, rows: Sequence[Example]) -> np.ndarray:
    """Return class probabilities [n, k] of rows, cross-fitted on frozen embeddings with the given labels."""
    from hybrid.labels.consensus import cross_fitted

    given = np.array([story.labels.index(row.label) for row in rows])
    embeddings = story.embed([row.text for row in rows])
    folds = story.recipe.clean.folds
    return cross_fitted(embeddings, given, len(story.labels), folds=folds, seed=story.recipe.seed)
