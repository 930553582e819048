"""The language models of a run as stages ask them: the decoder's votes, and a teacher with its settings and policy."""

from collections.abc import Sequence
from typing import Literal

from hybrid.config import Recipe
from hybrid.llm import backend_of
from hybrid.stages.stage import StageIO
from hybrid.teacher.ask import AskedVotes, ask_decoder
from hybrid.teacher.vote_collection import Teacher
from hybrid.types import Example


def decoder_votes(io: StageIO, rows: Sequence[Example]) -> AskedVotes:
    """The decoder's votes on rows, and what they cost; none where the recipe has no decoder."""
    return ask_decoder(
        rows,
        io.labels,
        decoder=io.llm("decoder"),
        llm=io.llm_config("decoder"),
        policy=io.policy("decoder"),
        on_done=io.advance,
    )


def teacher_of(io: StageIO, role: Literal["teacher", "second"]) -> Teacher | None:
    """A teacher with its settings and policy; None where the recipe has none."""
    llm = io.llm(role)
    return Teacher(llm=llm, config=io.llm_config(role), policy=io.policy(role)) if llm is not None else None


def may_weigh_decoder(recipe: Recipe) -> bool:
    """Whether the recipe lets calibrate ask the decoder; needs `decoder`, `task` and `calibrate`."""
    absent = backend_of(recipe.decoder).is_absent
    return not absent and recipe.task == "single_label" and recipe.calibrate.decoder_rows > 0
